"""What a request would get in an environment, and which rules decided so."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Alpha, Measure, show_stated
from registry.api.references import find_tenant
from registry.api.views.base import View, document
from registry.reads.lookups import get_environment
from registry.snapshots import Explanation, explain_request
from steernode.canonical import parse_alpha
from steernode.snapshot.records import STATED
from steernode.snapshot.resolve import EffectiveComponent
from steernode.spelling import spell


class EffectiveComponentOut(serializers.Serializer):
    vector_digest = serializers.CharField(source="component.vector.sha256")
    layer = serializers.IntegerField(source="component.layer")
    site = serializers.CharField(source="component.site")
    alpha = Alpha(help_text="after scaling, in `unit`")
    coefficient = Measure(help_text="the factor on the unit vector, in activation units; of ablate and clamp a strength from 0 to 1")
    bound = Measure(allow_null=True, help_text="of clamp, in activation units")
    schedule = serializers.SerializerMethodField(help_text="kind and its parameters, in generated tokens")
    condition = serializers.SerializerMethodField(help_text="what must hold for it to fire; null fires for every request")

    def get_fields(self) -> dict[str, serializers.Field]:
        """With what no request and no scale changes."""
        unchanged = {each.name: show_stated(each, source=f"component.{each.name}") for each in STATED if each.kind in ("word", "switch")}
        return super().get_fields() | unchanged

    def get_schedule(self, entry: EffectiveComponent) -> dict[str, Any]:
        schedule: dict[str, Any] = entry.component.stated()["schedule"]
        return schedule

    def get_condition(self, entry: EffectiveComponent) -> dict[str, Any] | None:
        condition: dict[str, Any] | None = entry.component.stated()["condition"]
        return condition


class RuleOut(serializers.Serializer):
    rule = serializers.CharField()
    says = serializers.CharField()
    reason = serializers.CharField(help_text="empty unless this rule decided")


class ExplanationOut(serializers.Serializer):
    environment = serializers.CharField()
    revision = serializers.IntegerField(help_text="of the snapshot this was read from")
    tenant = serializers.CharField()
    route = serializers.CharField()
    reason = serializers.CharField(
        help_text="flag_on, override, why nothing is steered (no_flag, killed_..., not_in_rollout, ...), or a refusal's code"
    )
    refusal = serializers.CharField(help_text="what a node answers instead of a reply; empty unless it refuses the request")
    arm = serializers.CharField(help_text="the caller's side of an A/B test; empty without one")
    profile = serializers.CharField(allow_null=True)
    profile_revision = serializers.IntegerField(allow_null=True)
    components = EffectiveComponentOut(many=True)
    rules = RuleOut(many=True, help_text="each rule that had a say, in order")


class ExplainView(View):
    """What a request would get, by the rules and the bytes that nodes use. Nodes and requests may only take away from it."""

    limited = ("GET",)
    query = ("tenant", "route", "key", "alpha")

    @document(
        "What a request would get, and why",
        answer=ExplanationOut,
        refuses=[404, 422],
        query={
            "tenant": "the tenant's name (required)",
            "route": "the route; left out: any route without a flag of its own",
            "key": "the rollout key that the request gives",
            "alpha": "the α that the request asks for",
        },
    )
    def get(self, request: Request, environment: str) -> Response:
        given = request.query_params
        if not given.get("tenant"):
            raise serializers.ValidationError({"tenant": ["say which tenant: ?tenant=NAME"]})
        alpha = parse_alpha(given["alpha"]) if given.get("alpha") else None
        where, who = get_environment(environment), find_tenant(given["tenant"], seen_by=self.person)
        route = spell(given.get("route", ""), "the route")
        explanation = explain_request(where, who.name, route, key=given.get("key", ""), alpha=alpha)
        return Response(ExplanationOut(_render(explanation, where.name, who.name, route)).data)


def _render(explanation: Explanation, environment: str, tenant: str, route: str) -> dict[str, Any]:
    effective = explanation.effective
    return {
        "environment": environment,
        "revision": explanation.revision,
        "tenant": tenant,
        "route": route,
        "reason": explanation.reason,
        "refusal": explanation.refusal,
        "arm": effective.arm,
        "profile": effective.profile.id if effective.profile else None,
        "profile_revision": effective.profile.revision if effective.profile else None,
        "components": effective.components,
        "rules": explanation.rules,
    }
