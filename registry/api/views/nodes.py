"""Serving nodes: enrol one, and see which are in step with the head of their environment."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Name, Spelled
from registry.api.references import find_node
from registry.api.views.base import Records, View, document
from registry.models import Role, ServingNode
from registry.reads.fleet import convergence_of
from registry.reads.lookups import get_environment
from registry.services.nodes import enroll_node


class NodeOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    environment = serializers.CharField(source="environment.name")
    is_active = serializers.BooleanField()
    convergence = serializers.SerializerMethodField(help_text="SYNCED, BEHIND, NACKED, SILENT or NEVER, judged as this is read")
    applied_revision = serializers.IntegerField(allow_null=True)
    head_revision = serializers.IntegerField(source="environment.head_revision")
    last_seen_at = serializers.DateTimeField(allow_null=True)
    last_result = serializers.CharField()
    last_code = serializers.CharField()
    engine = serializers.CharField()
    fingerprint = serializers.CharField()
    token_prefix = serializers.CharField()
    enrolled_at = serializers.DateTimeField()

    def get_convergence(self, node: ServingNode) -> str:
        return convergence_of(node, timezone.now())


class NewNodeOut(NodeOut):
    token = serializers.CharField(help_text="the node's secret, shown this once")


class NodeReportOut(serializers.Serializer):
    result = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()
    revision = serializers.IntegerField(allow_null=True)
    slots = serializers.JSONField()
    counters = serializers.JSONField()
    received_at = serializers.DateTimeField()


class NodeDetailOut(NodeOut):
    reports = serializers.SerializerMethodField(help_text="its latest changes of state")

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
        "Enrol a node; its token is in this answer and nowhere else", body=NewNodeBody, answer=NewNodeOut, status=201, refuses=[404, 409]
    )
    def post(self, request: Request) -> Response:
        body = self.read_body(self.NewNodeBody)
        node, secret = enroll_node(body["name"], environment=get_environment(body["environment"]), actor=self.person)
        return Response({**NodeOut(node).data, "token": secret}, status=201)


class NodeView(View):
    """One node and its latest reports, which tell of every tenant it serves."""

    @document("One node", answer=NodeDetailOut, refuses=[404])
    def get(self, request: Request, name: str) -> Response:
        return Response(NodeDetailOut(find_node(name)).data)
