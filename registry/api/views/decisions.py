"""Decisions on revisions: approve, reject, request changes, retire; and what they rest on. Each names the digests that were read."""

from typing import Any, ClassVar

from django.db.models import prefetch_related_objects
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Digest, Text
from registry.api.views.base import View, document
from registry.api.views.evaluations import LOOKS, LookOut
from registry.api.views.revisions import RevisionOut, render_revision
from registry.api.views.waivers import WaiverOut, list_waivers
from registry.models import Role
from registry.reads.evidence import evidence_of
from registry.reads.lookups import get_revision
from registry.reads.openings import count_looks, list_other_looks
from registry.reads.waivers import rested_on
from registry.services.approvals import approve_revision, comment_on_revision, reject_revision, request_changes
from registry.services.demands import Requirement, list_requirements, missing_approvals
from registry.services.profiles import retire_revision


class RequirementOut(serializers.Serializer):
    demand = serializers.CharField()
    is_met = serializers.SerializerMethodField()
    code = serializers.CharField(source="problem.code", default=None, allow_null=True, help_text="of the refusal that it would mean")
    problem = serializers.CharField(source="problem.message", default=None, allow_null=True)

    def get_is_met(self, requirement: Requirement) -> bool:
        return requirement.problem is None


class ChecklistOut(serializers.Serializer):
    requirements = RequirementOut(many=True)
    waivers = WaiverOut(many=True, help_text="of undecidable gates of this evidence and of that of its parts, whatever became of them")
    looks = serializers.DictField(child=serializers.IntegerField(), help_text=LOOKS)
    other_looks = LookOut(many=True, help_text="whatever else was measured of these vectors, or of this revision, and what came of it")
    waits_for = serializers.ListField(child=serializers.CharField(), help_text="what a submitted revision still needs to be approved")


class ChecklistView(View):
    """What the risk policy demands of a revision, and what of it is met. Of a draft: by the evidence it would be submitted with."""

    limited = ("GET",)

    @document("What is demanded and what is met", answer=ChecklistOut, refuses=[404])
    def get(self, request: Request, name: str, number: int) -> Response:
        revision = get_revision(name, number)
        evaluation = revision.evaluation or evidence_of(revision)
        if evaluation is not None:
            # What several demands, and the count of looks, read of it.
            prefetch_related_objects([evaluation], "job__suites", "vector__contrast_set")
        shown = {
            "requirements": list_requirements(revision),
            "waivers": list_waivers(rested_on(revision, evaluation)),
            "looks": count_looks(evaluation) if evaluation else {},
            "other_looks": list_other_looks(revision, evaluation),
            "waits_for": missing_approvals(revision),
        }
        return Response(ChecklistOut(shown).data)


class DecisionBody(Body):
    revision_digest = Digest(help_text="of the revision as the reviewer read it")
    evidence_digest = Digest(help_text="of the evidence as the reviewer read it")
    comment = Text(max_length=2000, allow_blank=True, default="")


class RefusalBody(Body):
    """Refusing only ever keeps steering away, so it may be of the revision as it stands."""

    revision_digest = Digest(required=False, help_text="refused if the revision is another by now")
    evidence_digest = Digest(required=False)
    comment = Text(max_length=2000)


class DecisionView(View):
    """One decision of one person on a submitted revision. 409 if it awaits none, changed since it was read, or is the caller's own."""

    roles = {"POST": [Role.APPROVER]}
    needs_key = True
    body: ClassVar[type[Body]] = RefusalBody
    decide: ClassVar[Any]

    def send_decision(self, request: Request, name: str, number: int) -> Response:
        revision = get_revision(name, number)
        shown = {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest if revision.evaluation else ""}
        type(self).decide(revision.pk, reviewer=self.person, **{**shown, **self.read_body(self.body)})
        return Response(render_revision(name, number))


class ApproveRevisionView(DecisionView):
    """Give one approval."""

    body = DecisionBody
    decide = staticmethod(approve_revision)

    @document("Approve a submitted revision", body=DecisionBody, answer=RevisionOut, refuses=[404, 409, 422])
    def post(self, request: Request, name: str, number: int) -> Response:
        return self.send_decision(request, name, number)


class RejectRevisionView(DecisionView):
    """Reject for good; the author drafts another revision."""

    decide = staticmethod(reject_revision)

    @document("Reject a submitted revision", body=RefusalBody, answer=RevisionOut, refuses=[404, 409, 422])
    def post(self, request: Request, name: str, number: int) -> Response:
        return self.send_decision(request, name, number)


class RequestChangesView(DecisionView):
    """submitted -> draft: the author changes it and submits it again, as another state."""

    decide = staticmethod(request_changes)

    @document("Request changes to a submitted revision", body=RefusalBody, answer=RevisionOut, refuses=[404, 409, 422])
    def post(self, request: Request, name: str, number: int) -> Response:
        return self.send_decision(request, name, number)


class CommentsView(View):
    """Say something without deciding: anybody with a role may, at any time. It stays as it was said."""

    roles = {"POST": list(Role.values)}

    class CommentBody(Body):
        text = Text(max_length=2000)

    @document("Comment on a revision", body=CommentBody, answer=RevisionOut, status=201, refuses=[404, 422])
    def post(self, request: Request, name: str, number: int) -> Response:
        body = self.read_body(self.CommentBody)
        comment_on_revision(get_revision(name, number).pk, author=self.person, **body)
        return Response(render_revision(name, number), status=201)


class RetireRevisionView(View):
    """approved -> retired. Reduces steering, so one person does it: an approver or an operator."""

    roles = {"POST": [Role.APPROVER, Role.OPERATOR]}

    class RetireBody(Body):
        reason = Text(max_length=2000)

    @document("Retire an approved revision", body=RetireBody, answer=RevisionOut, refuses=[404, 409])
    def post(self, request: Request, name: str, number: int) -> Response:
        body = self.read_body(self.RetireBody)
        retire_revision(get_revision(name, number).pk, actor=self.person, **body)
        return Response(render_revision(name, number))
