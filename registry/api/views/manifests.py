"""Manifests: plan, apply, export, drift, and the schemas they are written by. The client parses the files; the hub takes documents.

These addresses speak as manifests do, in camelCase.
"""

from functools import partial
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Digest, Switch, Whole
from registry.api.parsers import ManifestParser
from registry.api.permissions import require_role
from registry.api.views.base import View, document
from registry.api.views.plans import ChangeOut, RiskOut
from registry.errors import InvalidInput, NotFound
from registry.manifests.apply import apply_plan
from registry.manifests.documents import MAX_DOCUMENTS_BYTES, MAX_NAMES
from registry.manifests.drift import find_drift
from registry.manifests.export import export_manifests
from registry.manifests.kinds import KINDS, kind_schema, published_schema
from registry.manifests.plan import Options, Plan, make_plan
from registry.manifests.risks import Risks
from registry.manifests.steps import CREATE, DELETE, NO_OP, RETAIN, UPDATE
from registry.models import Role

ANYBODY = list(Role)


@extend_schema_field({"type": "array", "items": {}, "maxItems": MAX_NAMES})
class Documents(serializers.Field):
    """Any list. Each of its documents is held against the schema of its kind, once."""

    default_error_messages = {"not_a_list": "want a list of documents"}

    def to_internal_value(self, data: Any) -> list[Any]:
        if not isinstance(data, list):
            self.fail("not_a_list")
        return data


class DocumentsBody(Body):
    documents = Documents()


class PlanBody(DocumentsBody):
    prune = Switch(default=False, help_text="delete what the manifests' managers own and no longer declare")
    maxPrunePercent = Whole(min_value=0, max_value=100, default=10, help_text="of a manager's objects; more is refused")
    forceConflicts = Switch(default=False, help_text="take over what another manager owns; the audit log says so")


class ApplyBody(PlanBody):
    planDigest = Digest(help_text="of the plan that was looked at; refused once it would do something else")


class StepOut(serializers.Serializer):
    kind = serializers.CharField()
    name = serializers.CharField()
    action = serializers.ChoiceField([CREATE, UPDATE, NO_OP, DELETE, RETAIN])
    roles = serializers.ListField(child=serializers.CharField(), help_text="one of these applies it")
    changes = ChangeOut(many=True)
    risks = RiskOut(many=True)
    note = serializers.CharField(help_text="why an object, or a field of one, stays although no manifest says it any more")


class ReachOut(serializers.Serializer):
    environment = serializers.CharField()
    nodes = serializers.IntegerField()
    inStep = serializers.IntegerField(source="in_step", help_text="of those nodes, with the head revision as it is")
    newlySteered = serializers.ListField(child=serializers.CharField(), source="newly_steered")


class OptionsOut(serializers.Serializer):
    prune = serializers.BooleanField()
    maxPrunePercent = serializers.IntegerField()
    forceConflicts = serializers.BooleanField()


class PlanOut(serializers.Serializer):
    planDigest = serializers.CharField()
    changes = serializers.IntegerField(help_text="how many objects would be created, updated or deleted")
    options = OptionsOut(help_text="what the plan was made with; its digest covers them")
    steps = StepOut(many=True)
    environments = ReachOut(many=True, help_text="whose nodes would be given another snapshot")


def render_plan(plan: Plan, options: dict[str, Any]) -> dict[str, Any]:
    risks = Risks(plan)
    steps = [
        {
            "kind": step.kind,
            "name": step.name,
            "action": step.action,
            "roles": [str(role) for role in KINDS[step.kind].roles],
            "changes": [change._asdict() for change in step.changes],
            "risks": [risk._asdict() for risk in risks.of(step)],
            "note": step.note,
        }
        for step in plan.steps
    ]
    reach = ReachOut(risks.reach(), many=True).data
    return {"planDigest": plan.digest, "changes": len(plan.changes), "options": options, "steps": steps, "environments": reach}


def read_options(body: dict[str, Any]) -> Options:
    return Options(prune=body["prune"], max_prune_percent=body["maxPrunePercent"], force_conflicts=body["forceConflicts"])


class PlanView(View):
    """What applying the manifests would do, and what that means for those who are steered. Nothing is changed."""

    roles = {"POST": ANYBODY}
    parser_classes = [ManifestParser]

    @document("Plan manifests", body=PlanBody, answer=PlanOut, refuses=[404, 409, 413, 422])
    def post(self, request: Request) -> Response:
        body = self.read_body(PlanBody)
        return Response(render_plan(make_plan(body["documents"], read_options(body)), OptionsOut(body).data))


class AppliedStepOut(serializers.Serializer):
    kind = serializers.CharField()
    name = serializers.CharField()
    action = serializers.CharField()


class AppliedOut(serializers.Serializer):
    planDigest = serializers.CharField()
    changes = serializers.IntegerField()
    steps = AppliedStepOut(many=True)


class ApplyView(View):
    """All of the plan or nothing. Each change takes the role that its kind takes elsewhere."""

    roles = {"POST": [Role.AUTHOR, Role.OPERATOR, Role.ADMIN, Role.APPROVER]}
    parser_classes = [ManifestParser]

    @document("Apply a plan", body=ApplyBody, answer=AppliedOut, refuses=[404, 409, 413, 422])
    def post(self, request: Request) -> Response:
        body = self.read_body(ApplyBody)
        plan = apply_plan(
            body["documents"],
            options=read_options(body),
            plan_digest=body["planDigest"],
            actor=self.person,
            permit=partial(require_role, request),
        )
        steps = [{"kind": step.kind, "name": step.name, "action": step.action} for step in plan.steps]
        return Response({"planDigest": plan.digest, "changes": len(plan.changes), "steps": steps})


class DocumentsOut(serializers.Serializer):
    documents = serializers.ListField(child=serializers.JSONField())


class ExportView(View):
    """The record as manifests. Applying them plans to nothing."""

    query = ("kind", "name", "manager", "status")

    @document(
        "Export manifests",
        answer=DocumentsOut,
        refuses=[413],
        query={
            "kind": "only this kind",
            "name": "only the object of this name",
            "manager": "only what this manager owns",
            "status": "true: with what the hub makes of each object",
        },
    )
    def get(self, request: Request) -> HttpResponse:
        wanted = request.query_params
        kind, status = wanted.get("kind", ""), wanted.get("status", "false")
        if kind and kind not in KINDS:
            raise serializers.ValidationError({"kind": [f"no such kind; known are {', '.join(KINDS)}"]})
        if status not in ("true", "false"):
            raise serializers.ValidationError({"status": ["want true or false"]})
        documents = export_manifests(
            kinds=[kind] if kind else [],
            names=[wanted["name"]] if "name" in wanted else [],
            manager=wanted.get("manager"),
            with_status=status == "true",
        )
        data = JSONRenderer().render({"documents": documents})
        if len(data) > MAX_DOCUMENTS_BYTES or len(documents) > MAX_NAMES:
            message = (
                f"the export has {len(documents)} objects in {len(data)} bytes; {MAX_NAMES} objects and {MAX_DOCUMENTS_BYTES} bytes are "
                "planned together, so ask for it by kind, by manager or by name"
            )
            raise InvalidInput("MANIFESTS_TOO_LARGE", message)
        return HttpResponse(data, content_type="application/json")


class DriftRowOut(serializers.Serializer):
    kind = serializers.CharField()
    name = serializers.CharField()
    files = serializers.CharField(help_text="what the manifests say")
    registry = serializers.CharField(help_text="what is on record")
    snapshot = serializers.CharField(help_text="what nodes were last told; '-' where snapshots say nothing of it")
    nodes = serializers.CharField(help_text="what nodes report; '-' where they say nothing of it")
    drifts = serializers.BooleanField()


class DriftOut(serializers.Serializer):
    rows = DriftRowOut(many=True)


class DriftView(View):
    """Where files, record, last snapshot and nodes differ. Nothing is changed."""

    roles = {"POST": ANYBODY}
    parser_classes = [ManifestParser]

    @document(
        "Compare manifests with the record, the last snapshot and the nodes", body=DocumentsBody, answer=DriftOut, refuses=[409, 413, 422]
    )
    def post(self, request: Request) -> Response:
        rows = find_drift(self.read_body(DocumentsBody)["documents"])
        return Response(DriftOut({"rows": rows}).data)


class PublishedSchemaView(View):
    """One JSON Schema (draft 2020-12) for manifests of every kind, for editors."""

    limited = ("GET",)

    @document("The JSON Schema of manifests", answer=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        return Response(published_schema())


class SchemaView(View):
    """The JSON Schema (draft 2020-12) of one kind."""

    limited = ("GET",)

    @document("The JSON Schema of one kind of manifest", answer=OpenApiTypes.OBJECT, refuses=[404])
    def get(self, request: Request, kind: str) -> Response:
        if kind not in KINDS:
            raise NotFound("KIND_NOT_FOUND", f"no kind {kind[:100]!r}; known are {', '.join(KINDS)}", kind[:100])
        return Response(kind_schema(kind))
