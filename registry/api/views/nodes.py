"""Serving nodes: invite, rotate and withdraw them, and see which are in step with the head of their environment."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Name, Spelled, Text
from registry.api.references import find_node
from registry.api.views.base import Records, View, document
from registry.models import Role, ServingNode
from registry.reads.clocks import TOLERATED_OF_NODES, clock_off_seconds
from registry.reads.fleet import convergence_of, describe_stop
from registry.reads.lookups import get_environment
from registry.services.nodes import invite_node, reenroll_node, rotate_node, withdraw_node
from steernode.dsse import key_id, read_public_key


class StopHeldOut(serializers.Serializer):
    sequence = serializers.IntegerField()
    digest = serializers.CharField()
    held = serializers.IntegerField(help_text="how many kills it obeys")
    surplus = serializers.ListField(child=serializers.CharField(), help_text="of those, the ones that this statement does not list")


class UnservableOut(serializers.Serializer):
    profile = serializers.CharField()
    revision = serializers.IntegerField()
    code = serializers.CharField()
    message = serializers.CharField()


class NodeOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    environment = serializers.CharField(source="environment.name")
    is_active = serializers.BooleanField()
    convergence = serializers.SerializerMethodField(
        help_text="SYNCED, BEHIND, NACKED, MISMATCH, SILENT, NEVER or WITHDRAWN, judged as this is read"
    )
    applied_revision = serializers.IntegerField(allow_null=True)
    head_revision = serializers.IntegerField(source="environment.head_revision")
    last_seen_at = serializers.DateTimeField(allow_null=True)
    last_result = serializers.CharField()
    last_code = serializers.CharField()
    engine = serializers.CharField()
    fingerprint = serializers.CharField()
    capabilities = serializers.ListField(child=serializers.CharField())
    highest_revision = serializers.IntegerField(allow_null=True)
    applied_digest = serializers.CharField()
    stop_sequence = serializers.IntegerField(allow_null=True, help_text="of the stop statement that it holds")
    cannot_serve = serializers.SerializerMethodField(help_text="how many profiles of the applied snapshot it cannot serve")
    clock_off_seconds = serializers.SerializerMethodField(
        help_text="how far its clock was ahead of the database's when it last reported, less than 0 behind; "
        f"null if that was at most {TOLERATED_OF_NODES}"
    )
    token_prefix = serializers.CharField()
    key_id = serializers.SerializerMethodField(help_text="of the key that it signs with")
    enrolled_at = serializers.DateTimeField(allow_null=True)
    enrolment_expires_at = serializers.DateTimeField(allow_null=True, help_text="until when it may use a one-time token that it was given")
    withdrawn_at = serializers.DateTimeField(allow_null=True)

    def get_convergence(self, node: ServingNode) -> str:
        return convergence_of(node, timezone.now())

    def get_cannot_serve(self, node: ServingNode) -> int:
        return len(node.unservable)

    def get_clock_off_seconds(self, node: ServingNode) -> int | None:
        return clock_off_seconds(node)

    def get_key_id(self, node: ServingNode) -> str:
        return key_id(read_public_key(node.public_key, "public_key")) if node.public_key else ""


class InvitedNodeOut(NodeOut):
    enrolment_token = serializers.CharField(help_text="the one-time token to enrol with, shown this once")


class NodeReportOut(serializers.Serializer):
    result = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()
    revision = serializers.IntegerField(allow_null=True)
    slots = serializers.JSONField()
    counters = serializers.JSONField()
    received_at = serializers.DateTimeField()


class NodeDetailOut(NodeOut):
    unservable = UnservableOut(
        many=True, help_text="profiles of the applied snapshot that it cannot serve; their tenants are not steered there"
    )
    stop = serializers.SerializerMethodField(help_text="the stop statement that it holds, and kills that it obeys beyond the newest one")
    reports = serializers.SerializerMethodField(help_text="its latest changes of state")

    @extend_schema_field(StopHeldOut(allow_null=True))
    def get_stop(self, node: ServingNode) -> dict[str, Any] | None:
        return describe_stop(node)

    @extend_schema_field(NodeReportOut(many=True))
    def get_reports(self, node: ServingNode) -> list[dict[str, Any]]:
        return list(NodeReportOut(node.reports.order_by("-received_at")[:20], many=True).data)


class NodesView(Records):
    """Every node and where it stands."""

    limited = ("GET",)
    roles = {"POST": [Role.OPERATOR]}
    shows_secret = True
    serializer_class = NodeOut
    queryset = ServingNode.objects.select_related("environment").order_by("name")
    filters = {"environment": "environment__name"}

    class NewNodeBody(Body):
        name = Name()
        environment = Spelled(max_length=50)

    @document(
        "Invite a node; the token it enrols with is in this answer and nowhere else",
        body=NewNodeBody,
        answer=InvitedNodeOut,
        status=201,
        refuses=[404, 409],
    )
    def post(self, request: Request) -> Response:
        body = self.read_body(self.NewNodeBody)
        return _invited(*invite_node(body["name"], environment=get_environment(body["environment"]), actor=self.person))


class NodeView(View):
    """One node and its latest reports, which tell of every tenant it serves."""

    @document("One node", answer=NodeDetailOut, refuses=[404])
    def get(self, request: Request, name: str) -> Response:
        return Response(NodeDetailOut(find_node(name)).data)


class RotateNodeView(View):
    """Give a node another token and key: it enrols again, with a token for once. Those it has count until then."""

    roles = {"POST": [Role.OPERATOR]}
    shows_secret = True

    @document("Rotate a node's token and key", answer=InvitedNodeOut, status=201, refuses=[404, 409])
    def post(self, request: Request, name: str) -> Response:
        return _invited(*rotate_node(find_node(name), actor=self.person))


class ReenrollNodeView(View):
    """Let a withdrawn node come back: it enrols again, with a token for once."""

    roles = {"POST": [Role.OPERATOR]}
    shows_secret = True

    @document("Let a withdrawn node enrol again", answer=InvitedNodeOut, status=201, refuses=[404, 409])
    def post(self, request: Request, name: str) -> Response:
        return _invited(*reenroll_node(find_node(name), actor=self.person))


class WithdrawNodeView(View):
    """Give a node nothing more, at once. It stays listed, and no longer counts."""

    roles = {"POST": [Role.OPERATOR]}

    class Reason(Body):
        reason = Text(max_length=2000)

    @document("Withdraw a node", body=Reason, answer=NodeOut, refuses=[404, 409])
    def post(self, request: Request, name: str) -> Response:
        body = self.read_body(self.Reason)
        return Response(NodeOut(withdraw_node(find_node(name), reason=body["reason"], actor=self.person)).data)


def _invited(node: ServingNode, secret: str) -> Response:
    return Response({**NodeOut(node).data, "enrolment_token": secret}, status=201)
