"""Tenant flags: which approved revision a tenant is steered by, in one environment."""

from decimal import Decimal
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Alpha, Body, Name, Switch, Text, Whole
from registry.api.references import find_tenant
from registry.api.views.base import Records, View, document
from registry.errors import NotFound
from registry.models import Environment, ProfileRevision, Role, Tenant, TenantFlag
from registry.selectors import get_environment, get_revision
from registry.services.tenants import set_flag


class FlagOut(serializers.Serializer):
    id = serializers.UUIDField()
    environment = serializers.CharField(source="environment.name")
    tenant = serializers.CharField(source="tenant.name")
    route = serializers.CharField(help_text="empty: every route without a flag of its own")
    profile = serializers.CharField(source="revision.profile.name")
    revision = serializers.IntegerField(source="revision.number")
    revision_state = serializers.CharField(source="revision.state")
    enabled = serializers.BooleanField()
    alpha_scale = Alpha()
    reason = serializers.CharField()
    changed_by = serializers.CharField(source="changed_by.username")
    changed_at = serializers.DateTimeField()


class FlagsView(Records):
    """The flags of one environment. A tenant without one is not steered."""

    limited = ("GET",)
    tenant = "tenant"
    serializer_class = FlagOut
    queryset = TenantFlag.objects.select_related("environment", "tenant", "revision__profile", "changed_by").order_by(
        "tenant__name", "route"
    )
    filters = {"tenant": "tenant__name", "profile": "revision__profile__name"}

    def get_queryset(self) -> object:
        return super().get_queryset().filter(environment=get_environment(self.kwargs["environment"]))


class FlagView(View):
    """Turn a tenant's flag on or off. Turning on takes an approved revision; turning off always works."""

    roles = {"PUT": [Role.OPERATOR]}
    limited = ("PUT",)

    class FlagBody(Body):
        profile = Name(required=False, help_text="left out with `revision`: the revision that the flag points at already")
        revision = Whole(min_value=1, max_value=2**31 - 1, required=False)
        route = Text(max_length=100, required=False, allow_blank=True, default="")
        enabled = Switch()
        alpha_scale = Alpha(default=Decimal(1))
        reason = Text(max_length=2000)

    @document("Set a tenant's flag", body=FlagBody, answer=FlagOut, refuses=[404, 409, 422])
    def put(self, request: Request, environment: str, tenant: str) -> Response:
        body = self.read_body(self.FlagBody)
        where, who = get_environment(environment), find_tenant(tenant, seen_by=request.user)
        revision = _find_revision(body, where, who)
        flag = set_flag(where, who, revision=revision, actor=request.user, **body)
        return Response(FlagOut(flag).data)


def _find_revision(body: dict[str, Any], environment: Environment, tenant: Tenant) -> ProfileRevision:
    """The revision a body names, or the one its flag points at. Turning off must not wait for somebody to look up a number."""
    profile, number = body.pop("profile", None), body.pop("revision", None)
    if (profile is None) != (number is None):
        raise serializers.ValidationError({"revision" if number is None else "profile": ["give both profile and revision, or neither"]})
    if profile is not None:
        return get_revision(profile, number)
    flag = TenantFlag.objects.select_related("revision").filter(environment=environment, tenant=tenant, route=body["route"]).first()
    if flag is None:
        raise NotFound("FLAG_NOT_FOUND", f"{tenant} has no flag in {environment} yet; name a profile and its revision", tenant.name)
    return flag.revision
