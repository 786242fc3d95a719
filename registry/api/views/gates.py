"""Gate sets of the organisation: sealed under a name, for recipes and risk policies to name."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Name, Spelled, Text
from registry.api.references import find_gate_set
from registry.api.views.base import Records, View, document
from registry.models import GateSet, Role
from registry.services.gates import seal_gate_set
from steernode.gates import KINDS, METRICS, MOST_GATES


class ReasonedGateOut(serializers.Serializer):
    metric = serializers.CharField()
    kind = serializers.CharField()
    threshold = serializers.CharField()
    why = serializers.CharField()


class GateSetOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.IntegerField()
    digest = serializers.CharField(help_text="of the name, what it is about and the gates with their reasons; recipes and evidence name it")
    about = serializers.CharField()
    gates = ReasonedGateOut(many=True)
    author = serializers.CharField(source="author.username")
    sealed_at = serializers.DateTimeField()


class ReasonedGateBody(Body):
    metric = Spelled(max_length=100, help_text=f"one of {', '.join(METRICS)}")
    kind = Spelled(max_length=100, help_text=f"one of {', '.join(KINDS)}")
    threshold = Spelled(max_length=62, help_text="a decimal, as text")
    why = Text(max_length=1000)


class GateSetsView(Records):
    """Every sealed version of every gate set of the organisation. Those that ship are in the package's data/gates.json."""

    roles = {"POST": [Role.ADMIN, Role.APPROVER]}
    serializer_class = GateSetOut
    queryset = GateSet.objects.select_related("author").order_by("name", "-version")
    filters = {"name": "name", "digest": "digest"}

    class NewGateSetBody(Body):
        name = Name()
        about = Text(max_length=2000)
        gates = serializers.ListField(child=ReasonedGateBody(), min_length=1, max_length=MOST_GATES)

    @document("Seal a gate set", body=NewGateSetBody, answer=GateSetOut, status=201, refuses=[409, 422])
    def post(self, request: Request) -> Response:
        body = self.read_body(self.NewGateSetBody)
        gate_set = seal_gate_set(body["name"], about=body["about"], gates=[dict(gate) for gate in body["gates"]], author=self.person)
        return Response(GateSetOut(gate_set).data, status=201)


class GateSetView(View):
    """One sealed version."""

    @document("One gate set", answer=GateSetOut, refuses=[404])
    def get(self, request: Request, name: str, version: int) -> Response:
        return Response(GateSetOut(find_gate_set(f"{name}@{version}")).data)
