"""The kill switch. One person engages it; lifting it takes two."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Spelled, Text
from registry.api.references import find_kill
from registry.api.views.base import Records, View, document
from registry.models import LIFT_REQUEST_LASTS, MAY_KILL, Kill, KillKind
from registry.reads.lifts import LiftStanding, lift_standing
from registry.reads.obedience import Obedience, read_obedience
from registry.reads.visibility import kills_visible_to
from registry.services.kills import confirm_lift, engage_kill, request_lift, withdraw_lift


class ObeyedByOut(serializers.Serializer):
    """By what the nodes that it reaches report of the stop that they hold."""

    nodes = serializers.IntegerField(help_text="how many have said that they obey it")
    of = serializers.IntegerField(help_text="how many it reaches: enrolled, and not withdrawn")
    waiting = serializers.ListField(child=serializers.CharField(), help_text="those that have not said so")
    silent = serializers.ListField(
        child=serializers.CharField(), help_text="those that have said nothing lately; of these their last word is told"
    )
    withdrawn = serializers.ListField(
        child=serializers.CharField(),
        help_text="withdrawn since the kill, and never said so; they do not count",
    )


class KillsOut(serializers.ListSerializer):
    """Reads once for all what became of them."""

    def to_representation(self, data: Any) -> Any:
        kills = list(data)
        if isinstance(self.child, KillOut):
            self.child.obedience = read_obedience(kills)
        return super().to_representation(kills)


class KillOut(serializers.Serializer):
    class Meta:
        list_serializer_class = KillsOut

    obedience: Mapping[UUID, Obedience] | None = None

    id = serializers.UUIDField()
    kind = serializers.CharField()
    target = serializers.CharField(help_text="a name; * for everything")
    environment = serializers.CharField(source="environment_name", help_text="the one it reaches; null for every one", allow_null=True)
    reason = serializers.CharField()
    is_engaged = serializers.SerializerMethodField()
    engaged_by = serializers.CharField(
        source="engaged_by.username", default=None, allow_null=True, help_text="null for one that nodes handed back"
    )
    issuer = serializers.CharField(
        help_text="who wrote the statement that it was adopted from: hub, before a restore, or who stopped offline; else empty"
    )
    statement_digest = serializers.CharField(help_text="sha256 of that statement's payload; else empty")
    reported_by = serializers.CharField(
        source="reported_by.name", default=None, allow_null=True, help_text="the node that handed it back; else null"
    )
    engaged_at = serializers.DateTimeField()
    lift_requested_by = serializers.CharField(source="lift_requested_by.username", default=None, allow_null=True)
    lift_requested_at = serializers.DateTimeField(allow_null=True)
    lift_reason = serializers.CharField(help_text="why steering may be on again; empty while nobody asks")
    lift_expires_at = serializers.DateTimeField(
        allow_null=True, help_text=f"{LIFT_REQUEST_LASTS // timedelta(hours=1)} hours after the request; nobody confirms it later"
    )
    lift_standing = serializers.SerializerMethodField(help_text=f"one of {', '.join(LiftStanding)}; only what is pending can be confirmed")
    lifted_by = serializers.CharField(source="lifted_by.username", default=None, allow_null=True)
    lifted_at = serializers.DateTimeField(allow_null=True)
    obeyed_by = serializers.SerializerMethodField(help_text="what became of it on the nodes; null once it is lifted")

    def to_representation(self, kill: Kill) -> dict[str, Any]:
        found: dict[str, Any] = super().to_representation(kill)
        return {**found, "environment": found["environment"] or None}

    def get_is_engaged(self, kill: Kill) -> bool:
        return kill.lifted_at is None

    @extend_schema_field(ObeyedByOut(allow_null=True))
    def get_obeyed_by(self, kill: Kill) -> dict[str, Any] | None:
        found = (read_obedience([kill]) if self.obedience is None else self.obedience).get(kill.pk)
        return asdict(found) if found else None

    def get_lift_standing(self, kill: Kill) -> str:
        return lift_standing(kill)


class NothingBody(Body):
    """No fields."""


class KillsView(Records):
    """Every kill, in force or lifted, newest first."""

    roles = {"POST": MAY_KILL}
    # It may have been lifted since it was asked for under this key, and then what was answered is not so. Killing twice is one kill.
    ignores_key = True
    limited = ("GET", "POST")
    tenant = "tenant"
    shares_tenantless = True
    serializer_class = KillOut
    queryset = Kill.objects.select_related("tenant", "engaged_by", "reported_by", "lift_requested_by__acts_for", "lifted_by").order_by(
        "-engaged_at"
    )
    filters = {"kind": "kind"}
    query = ("is_engaged",)

    def filter_queryset(self, queryset: Any) -> Any:
        wanted = self.request.query_params.get("is_engaged")
        if wanted not in (None, "true", "false"):
            raise serializers.ValidationError({"is_engaged": ["want true or false"]})
        found = super().filter_queryset(kills_visible_to(self.person, queryset))
        return found if wanted is None else found.filter(lifted_at__isnull=wanted == "true")

    @extend_schema(
        parameters=[
            OpenApiParameter("kind", OpenApiTypes.STR, description=f"one of {', '.join(KillKind.values)}"),
            OpenApiParameter("is_engaged", OpenApiTypes.BOOL, description="true: in force; false: lifted"),
        ]
    )
    def get(self, request: Request, *args: object, **kwargs: object) -> Response:
        return super().get(request, *args, **kwargs)

    class KillBody(Body):
        kind = serializers.ChoiceField(KillKind.choices)
        target = Spelled(
            max_length=100, required=False, allow_blank=True, default="", help_text="name of the profile, tenant or environment"
        )
        environment = Spelled(
            max_length=50,
            required=False,
            allow_blank=True,
            default="",
            help_text="the only one that a kill of a profile or a tenant reaches; or the target of an environment kill",
        )
        reason = Text(max_length=2000)

    @document("Back to α = 0, now", body=KillBody, answer=KillOut, status=201, refuses=[404, 422])
    def post(self, request: Request) -> Response:
        body = self.read_body(self.KillBody)
        kill = engage_kill(**body, actor=self.person)
        return Response(KillOut(kill).data, status=201)


class KillView(View):
    """One kill."""

    limited = ("GET",)

    @document("One kill", answer=KillOut, refuses=[404])
    def get(self, request: Request, kill_id: UUID) -> Response:
        return Response(KillOut(find_kill(kill_id, seen_by=self.person)).data)


class RequestLiftView(View):
    """The first of the two people."""

    roles = {"POST": MAY_KILL}
    limited = ("POST",)

    class RequestLiftBody(Body):
        reason = Text(max_length=2000, help_text="why steering may be on again")

    @document("Ask that a kill be lifted", body=RequestLiftBody, answer=KillOut, refuses=[404, 409, 422])
    def post(self, request: Request, kill_id: UUID) -> Response:
        kill = request_lift(kill_id, actor=self.person, **self.read_body(self.RequestLiftBody))
        return Response(KillOut(kill).data)


class WithdrawLiftView(View):
    """One person is enough: steering stays off."""

    roles = {"POST": MAY_KILL}
    limited = ("POST",)

    class WithdrawLiftBody(Body):
        reason = Text(max_length=2000, required=False, allow_blank=True, default="")

    @document("Take the request for a lift back, one's own or another's", body=WithdrawLiftBody, answer=KillOut, refuses=[404, 409])
    def post(self, request: Request, kill_id: UUID) -> Response:
        kill = withdraw_lift(kill_id, actor=self.person, **self.read_body(self.WithdrawLiftBody))
        return Response(KillOut(kill).data)


class ConfirmLiftView(View):
    """The second of the two people."""

    roles = {"POST": MAY_KILL}
    limited = ("POST",)

    @document("Lift a kill that somebody else asked to lift", body=NothingBody, answer=KillOut, refuses=[404, 409])
    def post(self, request: Request, kill_id: UUID) -> Response:
        self.read_body(NothingBody)
        kill = confirm_lift(kill_id, actor=self.person)
        return Response(KillOut(kill).data)
