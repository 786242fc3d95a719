"""Freeze windows: when nothing may raise steering in an environment."""

from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Moment, Text
from registry.api.views.base import Records, View, document
from registry.models import Freeze
from registry.reads.lookups import get_environment
from registry.services.freezes import MAY_FREEZE, declare_freeze, end_freeze


class FreezeOut(serializers.Serializer):
    id = serializers.UUIDField()
    environment = serializers.CharField(source="environment.name")
    state = serializers.SerializerMethodField(help_text="planned, in force, over, or ended by a person")
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    reason = serializers.CharField()
    declared_by = serializers.CharField(source="declared_by.username")
    declared_at = serializers.DateTimeField()
    ended_by = serializers.CharField(source="ended_by.username", default=None, allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    ended_reason = serializers.CharField()

    def get_state(self, freeze: Freeze) -> str:
        return freeze.state_at(timezone.now())


class FreezesView(Records):
    """The freeze windows of one environment, newest first."""

    roles = {"POST": MAY_FREEZE}
    limited = ("GET",)
    serializer_class = FreezeOut
    queryset = Freeze.objects.select_related("environment", "declared_by", "ended_by").order_by("-starts_at")

    class FreezeBody(Body):
        starts_at = Moment(required=False, help_text="left out: now")
        ends_at = Moment()
        reason = Text(max_length=2000)

    def get_queryset(self) -> QuerySet[Freeze]:
        return super().get_queryset().filter(environment=get_environment(self.kwargs["environment"]))

    @document("Refuse everything that raises steering, for a time", body=FreezeBody, answer=FreezeOut, status=201, refuses=[404, 422])
    def post(self, request: Request, environment: str) -> Response:
        body = self.read_body(self.FreezeBody)
        freeze = declare_freeze(get_environment(environment), **body, actor=self.person)
        return Response(FreezeOut(freeze).data, status=201)


class EndFreezeView(View):
    """End a window before its time. It is on record who did and why."""

    roles = {"POST": MAY_FREEZE}

    class EndBody(Body):
        reason = Text(max_length=2000)

    @document("End a freeze", body=EndBody, answer=FreezeOut, refuses=[404, 409])
    def post(self, request: Request, freeze_id: UUID) -> Response:
        freeze = end_freeze(freeze_id, **self.read_body(self.EndBody), actor=self.person)
        return Response(FreezeOut(freeze).data)
