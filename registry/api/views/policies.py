"""Risk policies: what each risk class limits and demands."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Alpha, Body, Name, Spelled, Switch, Text, Whole
from registry.api.views.base import Records, View, document
from registry.models import CoverableForms, RiskPolicy, Role, SuiteKind
from registry.reads.lookups import get_policy
from registry.services.policies import PolicyTerms, change_policy, create_policy
from steernode.gates import gate_sets

GOVERNS_POLICIES = [Role.ADMIN, Role.APPROVER]


class AlphaCapsOut(serializers.Serializer):
    """The largest |α| of each unit."""

    absolute = Alpha()
    mean_difference = Alpha()
    residual = Alpha()


class PolicyOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    alpha_caps = AlphaCapsOut()
    composition_budget = Alpha(help_text="summed length of what is added at one layer, as a share of the mean residual norm")
    suite_kinds = serializers.ListField(child=serializers.CharField())
    gate_set = serializers.CharField()
    minimum_pairs = serializers.IntegerField()
    refuses_claimed_lineage = serializers.BooleanField(help_text="whether imported vectors may not be submitted")
    coverable_forms = serializers.CharField(help_text="which forms an approval may cover though nothing was measured on them")
    locales = serializers.ListField(child=serializers.CharField())
    evidence_max_age_days = serializers.IntegerField()
    approvals_needed = serializers.IntegerField()
    reviewer_roles = serializers.ListField(child=serializers.CharField())
    approval_valid_days = serializers.IntegerField()
    review_after_days = serializers.IntegerField()
    reason = serializers.CharField(help_text="of the last change")
    changed_by = serializers.CharField(source="changed_by.username", default=None, allow_null=True)
    changed_at = serializers.DateTimeField()


class AlphaCapsBody(Body):
    absolute = Alpha()
    mean_difference = Alpha()
    residual = Alpha()


class PolicyBody(Body):
    """Every term is written out, so that none is forgotten, but for those that came later."""

    alpha_caps = AlphaCapsBody()
    composition_budget = Alpha()
    suite_kinds = serializers.ListField(child=Spelled(max_length=10), max_length=10, help_text=f"of {', '.join(SuiteKind.values)}")
    gate_set = Spelled(
        max_length=111,
        help_text=f"one of {', '.join(gate_sets())}, or one of your own: name, which means its newest version, or name@version",
    )
    minimum_pairs = Whole()
    refuses_claimed_lineage = Switch(default=False)
    coverable_forms = serializers.ChoiceField(CoverableForms.choices, default=CoverableForms.CLOSE.value)
    locales = serializers.ListField(child=Spelled(max_length=35), max_length=100)
    evidence_max_age_days = Whole()
    approvals_needed = Whole()
    reviewer_roles = serializers.ListField(child=Spelled(max_length=150), max_length=20)
    approval_valid_days = Whole()
    review_after_days = Whole()
    reason = Text(max_length=2000)


class NewPolicyBody(PolicyBody):
    name = Name(max_length=50)


def read_terms(body: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of the services, from a parsed body."""
    reason = body.pop("reason")
    return {"terms": PolicyTerms(**body), "reason": reason}


class PoliciesView(Records):
    """Every risk policy."""

    roles = {"POST": GOVERNS_POLICIES}
    serializer_class = PolicyOut
    queryset = RiskPolicy.objects.select_related("changed_by").order_by("name")

    @document("Declare a risk class", body=NewPolicyBody, answer=PolicyOut, status=201, refuses=[409, 422])
    def post(self, request: Request) -> Response:
        body = self.read_body(NewPolicyBody)
        policy = create_policy(body.pop("name"), actor=self.person, **read_terms(body))
        return Response(PolicyOut(policy).data, status=201)


class PolicyView(View):
    """One risk policy. A change voids what is submitted under it and acts at once on what steers."""

    roles = {"PUT": GOVERNS_POLICIES}

    @document("One risk policy", answer=PolicyOut, refuses=[404])
    def get(self, request: Request, name: str) -> Response:
        return Response(PolicyOut(get_policy(name)).data)

    @document("Change a risk policy", body=PolicyBody, answer=PolicyOut, refuses=[404, 422])
    def put(self, request: Request, name: str) -> Response:
        body = self.read_body(PolicyBody)
        policy = change_policy(get_policy(name).name, actor=self.person, **read_terms(body))
        return Response(PolicyOut(policy).data)
