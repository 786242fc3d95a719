"""Environments, and what a request would get in one of them and why."""

from typing import Any

from django.db.models import F, Prefetch, QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Name
from registry.api.views.base import Records, View, document
from registry.models import Environment, Role, Snapshot
from registry.reads.lookups import get_environment
from registry.services.tenants import create_environment


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
        head = next(iter(environment.snapshots.all()), None)
        return SnapshotOut(head).data if head else None


def _environments() -> QuerySet[Environment]:
    """Each with what it serves, and of its snapshots the one that nodes are given now, without its payload."""
    heads = Snapshot.objects.filter(revision=F("environment__head_revision")).defer("payload_zlib")
    return Environment.objects.prefetch_related(Prefetch("snapshots", heads), "served__base_model", "served__moved_by")


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
        environment = create_environment(self.read_body(self.NewEnvironmentBody)["name"], actor=self.person)
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
    queryset = Snapshot.objects.order_by("-revision").defer("payload_zlib")

    def get_queryset(self) -> QuerySet[Snapshot]:
        return super().get_queryset().filter(environment=get_environment(self.kwargs["environment"]))
