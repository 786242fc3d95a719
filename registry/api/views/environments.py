"""Environments, and what a request would get in one of them and why."""

import json
from typing import Any

from django.db.models import F, Prefetch, QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Alpha, Body, Measure, Name
from registry.api.references import find_tenant
from registry.api.views.base import Records, View, document
from registry.errors import NotFound
from registry.models import Environment, Role, Snapshot
from registry.selectors import get_environment, head_snapshot
from registry.services.tenants import create_environment
from registry.snapshots import read_snapshot
from steerkit.effective import EffectiveComponent
from steerkit.snapshot import resolve


class SnapshotOut(serializers.Serializer):
    revision = serializers.IntegerField()
    content_digest = serializers.CharField()
    etag = serializers.CharField()
    rollback_of = serializers.IntegerField(allow_null=True)
    cause = serializers.CharField(help_text="the audit action that made it")
    issued_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class ServedOut(serializers.Serializer):
    """The fingerprint of a name that an environment serves."""

    name = serializers.CharField()
    fingerprint = serializers.CharField(source="base_model.fingerprint")
    moved_by = serializers.CharField(source="moved_by.username")
    moved_at = serializers.DateTimeField()


class EnvironmentOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    head_revision = serializers.IntegerField()
    head = serializers.SerializerMethodField(help_text="the snapshot that nodes are given now")
    base_models = ServedOut(many=True, source="served", help_text="what it serves now, one fingerprint of each name")
    created_at = serializers.DateTimeField()

    @extend_schema_field(SnapshotOut(allow_null=True))
    def get_head(self, environment: Environment) -> dict[str, Any] | None:
        return SnapshotOut(environment.heads[0]).data if environment.heads else None


def _environments() -> QuerySet[Environment]:
    """Each with what it serves and with `heads`, the one snapshot that nodes are given now, without its envelope."""
    heads = Snapshot.objects.filter(revision=F("environment__head_revision")).defer("envelope")
    return Environment.objects.prefetch_related(Prefetch("snapshots", heads, to_attr="heads"), "served__base_model", "served__moved_by")


class EnvironmentsView(Records):
    """Every environment with the head of its snapshots."""

    limited = ("GET",)
    roles = {"POST": [Role.OPERATOR]}
    serializer_class = EnvironmentOut
    queryset = _environments().order_by("name")

    class NewEnvironmentBody(Body):
        name = Name(max_length=50)

    @document("Create an environment; its first snapshot steers nothing", body=NewEnvironmentBody, answer=EnvironmentOut, status=201)
    def post(self, request: Request) -> Response:
        environment = create_environment(self.read_body(self.NewEnvironmentBody)["name"], actor=request.user)
        return Response(EnvironmentOut(_environments().get(pk=environment.pk)).data, status=201)


class EnvironmentView(View):
    """One environment."""

    limited = ("GET",)

    @document("One environment", answer=EnvironmentOut, refuses=[404])
    def get(self, request: Request, environment: str) -> Response:
        return Response(EnvironmentOut(_environments().get(pk=get_environment(environment).pk)).data)


class SnapshotsView(Records):
    """The snapshots of an environment, newest first: what nodes were told, when, and because of what."""

    limited = ("GET",)
    serializer_class = SnapshotOut
    queryset = Snapshot.objects.order_by("-revision").defer("envelope")

    def get_queryset(self) -> object:
        return super().get_queryset().filter(environment=get_environment(self.kwargs["environment"]))


class EffectiveComponentOut(serializers.Serializer):
    vector_digest = serializers.CharField(source="component.vector.sha256")
    layer = serializers.IntegerField(source="component.layer")
    site = serializers.CharField(source="component.site")
    operator = serializers.CharField(source="component.operator")
    scope = serializers.CharField(source="component.scope")
    alpha = Alpha(help_text="after scaling, in `unit`")
    unit = serializers.CharField(source="component.unit")
    coefficient = Measure(help_text="the factor on the unit vector, in activation units; of ablate and clamp a strength from 0 to 1")
    bound = Measure(allow_null=True, help_text="of clamp, in activation units")
    preserve_norm = serializers.BooleanField(source="component.preserve_norm")
    schedule = serializers.SerializerMethodField(help_text="kind and its parameters, in generated tokens")
    condition = serializers.SerializerMethodField(help_text="what must hold for it to fire; null fires for every request")

    def get_schedule(self, entry: EffectiveComponent) -> dict[str, Any]:
        return {"kind": entry.component.schedule_kind, **dict(entry.component.schedule)}

    def get_condition(self, entry: EffectiveComponent) -> dict[str, Any] | None:
        return json.loads(entry.component.condition) if entry.component.condition else None


class ExplanationOut(serializers.Serializer):
    environment = serializers.CharField()
    revision = serializers.IntegerField(help_text="of the snapshot this was read from")
    tenant = serializers.CharField()
    route = serializers.CharField()
    reason = serializers.CharField(help_text="flag_on, or why nothing is steered: no_flag, flag_off, killed_..., zero_scale")
    profile = serializers.CharField(allow_null=True)
    profile_revision = serializers.IntegerField(allow_null=True)
    components = EffectiveComponentOut(many=True)


class ExplainView(View):
    """What a request of this tenant on this route would get, by the rule and the bytes that nodes use."""

    limited = ("GET",)
    query = ("tenant", "route")

    @document(
        "What a request would get, and why",
        answer=ExplanationOut,
        refuses=[404],
        query={"tenant": "the tenant's name (required)", "route": "the route; left out: any route without a flag of its own"},
    )
    def get(self, request: Request, environment: str) -> Response:
        tenant, route = request.query_params.get("tenant", ""), request.query_params.get("route", "")
        if not tenant:
            raise serializers.ValidationError({"tenant": ["say which tenant: ?tenant=NAME"]})
        where, who = get_environment(environment), find_tenant(tenant, seen_by=request.user)
        return Response(ExplanationOut(_explain(where, who.name, route)).data)


def _explain(environment: Environment, tenant: str, route: str) -> dict[str, Any]:
    head = head_snapshot(environment)
    if head is None:
        raise NotFound("SNAPSHOT_NOT_FOUND", f"{environment} has no snapshot yet", environment.name)
    effective = resolve(read_snapshot(head), tenant, route)
    return {
        "environment": environment.name,
        "revision": head.revision,
        "tenant": tenant,
        "route": route,
        "reason": effective.reason,
        "profile": effective.profile.id if effective.profile else None,
        "profile_revision": effective.profile.revision if effective.profile else None,
        "components": effective.components,
    }
