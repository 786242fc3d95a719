"""OFREP 0.3: any OpenFeature client may ask what steers a tenant's request (open-feature/protocol, service/openapi.yaml).

There is one flag, `steering`. Its value is what the tenant's request gets, so what other services spread over many flags is here in
the context: `tenant` and `environment` (required), `route`, `targetingKey` (the rollout key) and `alpha` (the α that the request
asks for, as a decimal string). Anything else in the context is not looked at.
"""

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import exceptions, serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request

from registry.api.errors import problem_response
from registry.api.permissions import MayReachTenants
from registry.api.references import find_tenant
from registry.api.views.base import ProblemDocument, View
from registry.errors import NotFound
from registry.models import Environment
from registry.reads.lookups import get_environment
from registry.snapshots import read_head
from registry.web.problems import PROBLEM_TYPE
from steernode.canonical import canonical_json, format_decimal, parse_alpha, sha256_hex
from steernode.errors import AlphaError, SpellingError, SteerError
from steernode.snapshot.resolve import Effective, resolve
from steernode.spelling import spell
from steernode.words import EVERYBODY

FLAG = "steering"
# Reasons of ours that come of the split of callers, and those that say that steering is switched off.
_SPLIT = ("not_in_rollout", "zero_scale")


class OfrepRefusal(exceptions.APIException):
    """An answer of the protocol's own: its error code and a sentence."""

    def __init__(self, status: int, error_code: str, details: str) -> None:
        super().__init__(details, code=error_code)
        self.status_code, self.error_code = status, error_code


@dataclass(frozen=True, slots=True)
class Context:
    """What of an evaluation context decides about steering."""

    environment: Environment
    tenant: str
    route: str
    key: str
    alpha: Decimal | None


class EvaluationRequest(serializers.Serializer):
    context = serializers.DictField(  # type: ignore[assignment]  # Field has a `context` too
        help_text="environment, tenant, route, targetingKey, alpha"
    )


class SteeringValue(serializers.Serializer):
    """What steers the request; profile null for nothing."""

    profile = serializers.CharField(allow_null=True)
    revision = serializers.IntegerField(allow_null=True)
    alpha_scale = serializers.CharField()
    components = serializers.ListField(child=serializers.DictField(), help_text="vector_sha256, layer, site, alpha, unit")


class Evaluation(serializers.Serializer):
    key = serializers.CharField()
    value = SteeringValue()
    variant = serializers.CharField(help_text="the arm of an A/B test, or on, or off")
    reason = serializers.ChoiceField(["STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED", "UNKNOWN"])
    metadata = serializers.DictField(help_text="steering_reason, environment, snapshot_revision")


class EvaluationFailure(serializers.Serializer):
    key = serializers.CharField(required=False)
    errorCode = serializers.ChoiceField(["PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "FLAG_NOT_FOUND", "GENERAL"])
    errorDetails = serializers.CharField()


class BulkEvaluation(serializers.Serializer):
    flags = serializers.ListField(child=serializers.DictField(), help_text="each an evaluation, or its failure")


_REFUSALS = {
    (400, "application/json"): OpenApiResponse(EvaluationFailure, description="The context cannot be evaluated."),
    **{(status, PROBLEM_TYPE): OpenApiResponse(ProblemDocument, description="Refused.") for status in (400, 401, 403, 409, 413, 415)},
}


class OfrepView(View):
    """Asking changes nothing, so it takes a token and no role."""

    permission_classes = [IsAuthenticated, MayReachTenants]
    limited = ("POST",)

    def get_exception_handler(self) -> Any:
        return self._answer_refusal

    def _answer_refusal(self, error: Exception, context: dict[str, Any]) -> HttpResponse:
        """What the protocol has a word for is said in its words; the rest as everywhere in this API."""
        if isinstance(error, OfrepRefusal):
            status, code, details = error.status_code, error.error_code, str(error.detail)
        elif isinstance(error, SteerError) and error.code.startswith("JSON_"):
            status, code, details = 400, "PARSE_ERROR", error.message
        elif isinstance(error, exceptions.ValidationError | exceptions.ParseError):
            status, code, details = 400, "PARSE_ERROR", 'want a JSON object such as {"context": {"tenant": "harbor"}}'
        else:
            return problem_response(error, context)
        key = {"key": self.kwargs["key"]} if "key" in self.kwargs else {}
        return _send({**key, "errorCode": code, "errorDetails": details}, status=status)

    def read_context(self, request: Request) -> Context:
        """Raises: OfrepRefusal PARSE_ERROR, INVALID_CONTEXT."""
        given = request.data.get("context", {}) if isinstance(request.data, dict) else None
        if not isinstance(given, dict):
            raise OfrepRefusal(400, "PARSE_ERROR", 'want a JSON object such as {"context": {"tenant": "harbor"}}')
        texts = {name: _read_text(given, name) for name in ("environment", "tenant", "route", "targetingKey", "alpha")}
        for name in ("environment", "tenant"):
            if not texts[name]:
                raise OfrepRefusal(400, "INVALID_CONTEXT", f"the context lacks {name!r}: whose steering is asked for?")
        try:
            return Context(
                environment=get_environment(texts["environment"]),
                # A tenant that the caller may not see is answered like one that is not there.
                tenant=find_tenant(texts["tenant"], seen_by=self.person).name,
                route=texts["route"],
                key=texts["targetingKey"],
                alpha=parse_alpha(texts["alpha"]) if texts["alpha"] else None,
            )
        except (NotFound, AlphaError) as error:
            raise OfrepRefusal(400, "INVALID_CONTEXT", error.message) from error


class EvaluateFlagView(OfrepView):
    """Evaluate `steering`, the only flag there is."""

    @extend_schema(
        operation_id="ofrep_evaluate_flag",
        summary="OFREP: what steers a request",
        request=EvaluationRequest,
        responses={200: Evaluation, 404: EvaluationFailure, **_REFUSALS},
    )
    def post(self, request: Request, key: str) -> HttpResponse:
        if key != FLAG:
            raise OfrepRefusal(404, "FLAG_NOT_FOUND", f"no flag {key!r}; the flag is {FLAG!r}, and the context says whose")
        return _send(_evaluate(self.read_context(request)))


class EvaluateFlagsView(OfrepView):
    """Evaluate every flag, of which there is one. With If-None-Match the answer is 304 while nothing about it changed."""

    @extend_schema(
        operation_id="ofrep_evaluate_flags",
        summary="OFREP: every flag of a context",
        request=EvaluationRequest,
        parameters=[OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER)],
        responses={200: BulkEvaluation, 304: OpenApiResponse(description="As it was."), **_REFUSALS},
    )
    def post(self, request: Request) -> HttpResponse:
        context = self.read_context(request)
        try:
            evaluation = _evaluate(context)
        except OfrepRefusal as refusal:
            evaluation = {"key": FLAG, "errorCode": refusal.error_code, "errorDetails": str(refusal.detail)}
        body = {"flags": [evaluation]}
        # Of the value and not of the snapshot: what changed for others is no news here.
        tag = f'"{sha256_hex(canonical_json({**evaluation, "metadata": None}))[:32]}"'
        if tag in [given.strip().removeprefix("W/") for given in request.headers.get("If-None-Match", "").split(",")]:
            return HttpResponse(status=304, headers={"ETag": tag})
        response = _send(body)
        response["ETag"] = tag
        return response


def _evaluate(context: Context) -> dict[str, Any]:
    """Raises: OfrepRefusal TARGETING_KEY_MISSING, INVALID_CONTEXT."""
    head, snapshot = read_head(context.environment)
    try:
        effective = resolve(snapshot, context.tenant, context.route, key=context.key, alpha=context.alpha)
    except AlphaError as error:
        raise OfrepRefusal(400, "INVALID_CONTEXT", f"{error.message} ({error.code})") from error
    if effective.reason == "rollout_key_missing":
        raise OfrepRefusal(400, "TARGETING_KEY_MISSING", f"the flag of {context.tenant} is not for everybody alike; give a targetingKey")
    return {
        "key": FLAG,
        "value": _render_value(effective),
        "variant": effective.arm or ("on" if effective.profile else "off"),
        "reason": _reason_of(effective),
        "metadata": {"steering_reason": effective.reason, "environment": context.environment.name, "snapshot_revision": head.revision},
    }


def _render_value(effective: Effective) -> dict[str, Any]:
    profile = effective.profile
    return {
        "profile": profile.id if profile else None,
        "revision": profile.revision if profile else None,
        "alpha_scale": format_decimal(effective.alpha_scale),
        "components": [
            {
                "vector_sha256": entry.component.vector.sha256,
                "layer": entry.component.layer,
                "site": entry.component.site,
                "alpha": format_decimal(entry.alpha),
                "unit": entry.component.unit,
            }
            for entry in effective.components
        ],
    }


def _reason_of(effective: Effective) -> str:
    """SPLIT where the key decided, TARGETING_MATCH where the route or an asked α did, STATIC otherwise, DISABLED for off and killed."""
    flag = effective.flag
    if effective.reason in ("override", "zero_alpha"):
        return "TARGETING_MATCH"
    if flag is not None and (effective.profile or effective.reason in _SPLIT) and (flag.rollout < EVERYBODY or effective.arm):
        return "SPLIT"
    if effective.profile is None:
        return "DISABLED"
    return "TARGETING_MATCH" if flag is not None and flag.route else "STATIC"


def _read_text(given: dict[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
        raise OfrepRefusal(400, "INVALID_CONTEXT", f"{name} must be printable text of at most 200 characters")
    try:
        return spell(value, name)
    except SpellingError as error:
        raise OfrepRefusal(400, "INVALID_CONTEXT", f"{error.message} ({error.code})") from error


def _send(body: dict[str, Any], *, status: int = 200) -> HttpResponse:
    return HttpResponse(json.dumps(body, ensure_ascii=False), status=status, content_type="application/json")
