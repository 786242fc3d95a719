"""Profile revisions: draft, edit, submit. What others decide on them is in decisions.py."""

from typing import Any

from django.db.models import Prefetch, QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Spelled, Text, Whole, ask_stated, show_stated
from registry.api.preconditions import read_if_match, tagged
from registry.api.references import find_base_model, find_evaluation, find_probe, find_vector
from registry.api.views.base import Records, View, document
from registry.api.views.base_models import BaseModelRefOut
from registry.errors import TransitionRefused
from registry.models import Approval, Component, CoveredForm, Evaluation, ProfileRevision, Role, StalePolicy
from registry.reads.departures import with_departures
from registry.reads.documents import COVERS, tag_revision
from registry.reads.evidence import evidence_of, is_as_validated
from registry.reads.lookups import get_profile, get_revision
from registry.services.profiles import draft_revision, edit_revision, submit_revision
from steernode.files.drift import describe_other_files
from steernode.snapshot.records import STATED
from steernode.words import MAX_COMPONENTS, MAX_COVERED_FORMS, MAX_OVERRIDES


class RevisionRefOut(serializers.Serializer):
    profile = serializers.CharField(source="profile.name")
    number = serializers.IntegerField()


class ComponentOut(serializers.Serializer):
    position = serializers.IntegerField()
    vector = serializers.SerializerMethodField(help_text="name@version")
    vector_digest = serializers.CharField(source="vector.digest")
    layer = serializers.IntegerField(source="vector.layer")
    site = serializers.CharField(source="vector.site")

    def get_fields(self) -> dict[str, serializers.Field]:
        return super().get_fields() | {each.name: show_stated(each) for each in STATED}

    def get_vector(self, component: Component) -> str:
        return f"{component.vector.name}@{component.vector.version}"


class CoveredFormOut(serializers.Serializer):
    """A form that the approval covers too. Nothing was measured on it."""

    name = serializers.CharField(source="base_model.name")
    fingerprint = serializers.CharField(source="base_model.fingerprint")
    verdict = serializers.CharField(help_text="what comparisons on record make of it: equal, another dtype or quantised")
    worst = serializers.CharField(help_text="the largest difference of a weight, as a part of the largest of its tensor")
    changes = serializers.SerializerMethodField(help_text="what else differs from the files that were measured, in words")
    is_measured = serializers.SerializerMethodField(help_text="never: evidence is of base_model")

    def get_changes(self, covered: CoveredForm) -> list[str]:
        return describe_other_files(covered.revision.base_model.manifest, covered.base_model.manifest)

    def get_is_measured(self, covered: CoveredForm) -> bool:
        return False


class ApprovalOut(serializers.Serializer):
    reviewer = serializers.CharField(source="reviewer.username")
    decision = serializers.CharField()
    comment = serializers.CharField()
    revision_digest = serializers.CharField()
    evidence_digest = serializers.CharField()
    roles = serializers.ListField(child=serializers.CharField(), help_text="that the reviewer held then")
    decided_at = serializers.DateTimeField()
    is_current = serializers.SerializerMethodField(help_text="whether it is of the revision and evidence as they are now")
    reviewer_left = serializers.BooleanField(
        help_text="whether the reviewer left since, or lost the role; what is approved stays so, what is pending lacks this approval"
    )

    def get_is_current(self, approval: Approval) -> bool:
        revision = approval.revision
        evidence = revision.evaluation.digest if revision.evaluation else ""
        return (approval.revision_digest, approval.evidence_digest) == (revision.digest, evidence)


class CommentOut(serializers.Serializer):
    author = serializers.CharField(source="author.username")
    text = serializers.CharField()
    revision_digest = serializers.CharField(help_text="of the state it was said of; empty for a draft")
    said_at = serializers.DateTimeField()


class RevisionOut(serializers.Serializer):
    id = serializers.UUIDField()
    profile = serializers.CharField(source="profile.name")
    number = serializers.IntegerField()
    state = serializers.CharField()
    invalidated_reason = serializers.CharField(help_text="empty unless it is invalidated")
    author = serializers.CharField(source="author.username")
    base_model = BaseModelRefOut(help_text="that its evidence was measured on")
    covers = CoveredFormOut(many=True, help_text="forms of it that the approval covers too")
    risk_class = serializers.CharField(source="profile.risk_class_id")
    digest = serializers.CharField(help_text="empty while a draft")
    evidence_digest = serializers.CharField(source="evaluation.digest", default="", help_text="empty while a draft")
    evaluation = serializers.UUIDField(source="evaluation_id", allow_null=True)
    components = ComponentOut(many=True)
    safety_override = serializers.JSONField(help_text="conditions any of which forces neutral")
    probes = serializers.JSONField(help_text="that conditions name: name, version, document with the ROC, what the test split says")
    stale_policy = serializers.CharField()
    max_staleness_seconds = serializers.IntegerField()
    submission = serializers.IntegerField(help_text="how often it was submitted")
    approvals_needed = serializers.IntegerField()
    approvals = ApprovalOut(many=True)
    comments = CommentOut(many=True)
    demands = serializers.JSONField(help_text="what the risk policy demanded at submission; empty while a draft")
    waivers = serializers.JSONField(help_text="that it was submitted with: the gate, both people, why and until when; empty while a draft")
    rationale = serializers.CharField()
    created_at = serializers.DateTimeField()
    submitted_at = serializers.DateTimeField(allow_null=True)
    decided_at = serializers.DateTimeField(allow_null=True)
    review_due_at = serializers.DateTimeField(allow_null=True, help_text="after this it steers no more")


class ComponentBody(Body):
    vector = Spelled(help_text="name@version, name or id")

    def get_fields(self) -> dict[str, serializers.Field]:
        return super().get_fields() | {each.name: ask_stated(each) for each in STATED}


class RevisionBody(Body):
    components: serializers.ListSerializer = serializers.ListSerializer(child=ComponentBody(), min_length=1, max_length=MAX_COMPONENTS)
    safety_override = serializers.ListField(
        child=serializers.DictField(), max_length=MAX_OVERRIDES, default=list, help_text="conditions any of which forces neutral"
    )
    covers = serializers.ListField(
        child=Spelled(max_length=200), max_length=MAX_COVERED_FORMS, default=list,
        help_text="forms of the base model that the approval covers too: name (the newest), name@fingerprint or its first digits, or id",
    )  # fmt: skip
    stale_policy = serializers.ChoiceField(StalePolicy.choices, required=False)
    max_staleness_seconds = Whole(min_value=0, max_value=30 * 86400, required=False)
    rationale = Text(max_length=5000, required=False, allow_blank=True)


WHOLE_REVISIONS = ProfileRevision.objects.select_related("profile__risk_class", "author", "base_model", "evaluation").prefetch_related(
    "components__vector",
    Prefetch("covers", COVERS),
    Prefetch("approvals", with_departures(Approval.objects.select_related("reviewer"))),
    "comments__author",
)


def render_revision(profile: str, number: int) -> dict[str, Any]:
    return RevisionOut(_get_whole(profile, number)).data


def _get_whole(profile: str, number: int) -> ProfileRevision:
    return WHOLE_REVISIONS.get(pk=get_revision(profile, number).pk)


def read_revision(view: View) -> dict[str, Any]:
    body = view.read_body(RevisionBody)
    overrides = [find_probe_vector(condition) for condition in body.pop("safety_override")]
    covers = [find_base_model(reference) for reference in body.pop("covers")]
    components = [read_component(component) for component in body.pop("components")]
    return {"components": components, "safety_override": overrides, "covers": covers, **body}


def read_component(body: dict[str, Any]) -> Component:
    return Component(**{**body, "vector": find_vector(body["vector"]), "condition": find_probe_vector(body.get("condition"))})


def find_probe_vector(condition: Any) -> Any:
    """A condition with the probe that it names, or the vector. Anything else is for the service to judge."""
    if isinstance(condition, dict) and isinstance(condition.get("probe"), str):
        return {**condition, "probe": find_probe(condition["probe"])}
    if isinstance(condition, dict) and isinstance(condition.get("vector"), str):
        return {**condition, "vector": find_vector(condition["vector"])}
    return condition


class RevisionsView(Records):
    """The revisions of one profile, newest first."""

    limited = ("GET",)
    roles = {"POST": [Role.AUTHOR]}
    serializer_class = RevisionOut
    queryset = WHOLE_REVISIONS.order_by("-number")
    filters = {"state": "state"}

    def get_queryset(self) -> QuerySet[ProfileRevision]:
        return super().get_queryset().filter(profile=get_profile(self.kwargs["name"]))

    @document("Draft a revision", body=RevisionBody, answer=RevisionOut, status=201, refuses=[404, 409, 422])
    def post(self, request: Request, name: str) -> Response:
        revision = draft_revision(get_profile(name), author=self.person, **read_revision(self))
        return Response(render_revision(name, revision.number), status=201)


class RevisionView(View):
    """One revision: what it does, on what evidence, and who decided."""

    limited = ("GET",)
    roles = {"PUT": [Role.AUTHOR]}

    @document("One revision", answer=RevisionOut, refuses=[404])
    def get(self, request: Request, name: str, number: int) -> Response:
        return _tagged(name, number)

    @document(
        "Edit a draft or a submitted revision; it is a draft again",
        body=RevisionBody,
        answer=RevisionOut,
        refuses=[404, 409, 412, 422, 428],
    )
    def put(self, request: Request, name: str, number: int) -> Response:
        read_tag = read_if_match(request, is_required=True)
        revision = get_revision(name, number)
        edit_revision(revision.pk, actor=self.person, read_tag=read_tag, **read_revision(self))
        return _tagged(name, number)


def _tagged(name: str, number: int) -> Response:
    revision = _get_whole(name, number)
    return tagged(Response(RevisionOut(revision).data), tag_revision(revision, revision.components.all(), revision.covers.all()))


class SubmitRevisionView(View):
    """draft -> submitted."""

    roles = {"POST": [Role.AUTHOR]}

    class SubmitBody(Body):
        evaluation = Spelled(max_length=36, required=False, help_text="id; left out: the one evaluation that covers the components")

    @document("Submit a draft with its evidence", body=SubmitBody, answer=RevisionOut, refuses=[404, 409, 422])
    def post(self, request: Request, name: str, number: int) -> Response:
        body = self.read_body(self.SubmitBody)
        revision = get_revision(name, number)
        evaluation = find_evaluation(body["evaluation"]) if "evaluation" in body else _find_evidence(revision)
        submit_revision(revision.pk, evaluation=evaluation, actor=self.person)
        return Response(render_revision(name, number))


def _find_evidence(revision: ProfileRevision) -> Evaluation:
    evaluation = evidence_of(revision)
    if evaluation is None:
        ask = "validate its vector" if is_as_validated(list(revision.components.all())) else "have its components judged together"
        raise TransitionRefused("EVIDENCE_MISSING", f"no evaluation covers {revision}; {ask} first", str(revision))
    return evaluation
