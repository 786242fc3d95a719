"""The approval page: everything a second person needs to see before they answer for it, and the form to answer with."""

from uuid import UUID

from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect

from registry.blobs import get_blob
from registry.console.evidence import describe_evaluation
from registry.console.forms.decoding import DecodingForm
from registry.console.forms.fields import ReasonForm
from registry.console.forms.revisions import CommentForm, DecisionForm, SubmitForm
from registry.console.lineage import trace_vector
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.console.probes import Row, list_probes
from registry.console.waivers import list_open_gates
from registry.errors import BlobMissing
from registry.models import Decision, Probe, ProfileRevision, RevisionState, Role, User
from registry.reads.departures import still_may, with_departures
from registry.reads.documents import COVERS, template_arguments_of
from registry.reads.evidence import evidence_of, is_as_validated, valid_approvals
from registry.reads.forms import relate_covered
from registry.reads.openings import count_looks, list_other_looks
from registry.reads.steering import flags_pointing_at
from registry.services.approvals import approve_revision, comment_on_revision, reject_revision, request_changes
from registry.services.demands import list_requirements, missing_approvals
from registry.services.people import stands_for
from registry.services.profiles import retire_revision, submit_revision

_DECISIONS = {
    Decision.APPROVE: (approve_revision, "Your approval is recorded."),
    Decision.REJECT: (reject_revision, "Rejected."),
    Decision.REQUEST_CHANGES: (request_changes, "It is a draft again; its author is told what you ask for."),
}


@page()
def list_waiting(request: Request) -> HttpResponse:
    """What waits for a decision, oldest first, and what was decided last."""
    related = ("profile", "author", "base_model", "evaluation__vector")
    revisions = ProfileRevision.objects.select_related(*related)
    waiting = revisions.filter(state=RevisionState.SUBMITTED).annotate(forms_covered=Count("covers")).order_by("submitted_at")
    decided = revisions.filter(decided_at__isnull=False).order_by("-decided_at")[:10]
    rows = [(revision, why_not_decide(revision, request.user)) for revision in waiting]
    return render_page(request, "console/approvals.html", title="Approvals", waiting=rows, decided=decided)


@page()
def show_revision(request: Request, revision_id: UUID) -> HttpResponse:
    revision = _get_revision(revision_id)
    components = list(revision.components.select_related("vector__base_model", "vector__contrast_set", "vector__job"))
    vectors = [component.vector for component in components]
    # A draft has no evidence yet; what covers its components is shown as what it would be submitted with.
    evaluation = revision.evaluation or evidence_of(revision)
    return render_page(
        request,
        "console/revision.html",
        title=f"Revision {revision}",
        revision=revision,
        components=components,
        template_arguments=template_arguments_of(components),
        probes=_read_probes(revision),
        covers=relate_covered(revision.base_model, COVERS.filter(revision=revision)),
        lineages=[trace_vector(vector, here=revision) for vector in vectors],
        **describe_evaluation(evaluation),
        looks=count_looks(evaluation) if evaluation else {},
        other_looks=list_other_looks(revision, evaluation),
        open_gates=list_open_gates(revision, evaluation, request.user),
        requirements=list_requirements(revision),
        waits_for=missing_approvals(revision) if revision.state == RevisionState.SUBMITTED else [],
        approvals=with_departures(revision.approvals.select_related("reviewer")),
        author_left=revision.state == RevisionState.SUBMITTED and not still_may(revision.author, Role.AUTHOR),
        approvals_given=len({approval.reviewer_person for approval in valid_approvals(revision)}),
        comments=revision.comments.select_related("author"),
        comment_form=CommentForm(),
        why_not=why_not_decide(revision, request.user),
        decision_form=DecisionForm(),
        submit_form=SubmitForm(revision=revision) if revision.state == RevisionState.DRAFT else None,
        compose_form=DecodingForm()
        if not is_as_validated(components) and revision.state == RevisionState.DRAFT and evaluation is None
        else None,
        retire_form=ReasonForm(),
        flags=flags_pointing_at(revision).select_related("environment", "tenant"),
    )


def _read_probes(revision: ProfileRevision) -> list[tuple[Probe, list[Row]]]:
    """The probes that conditions name, with what the test split of each says."""
    named = [probe["document"] for probe in revision.probes]
    probes = Probe.objects.select_related("prompt_set").filter(document_digest__in=named).order_by("name", "version")
    return list_probes(probes)


def why_not_decide(revision: ProfileRevision, user: User) -> str:
    """Why this person may not decide now, as a sentence; empty if they may. The service checks again."""
    if revision.state != RevisionState.SUBMITTED:
        return f"This revision is {revision.state}; only a submitted one is decided on."
    if stands_for(revision.author) == stands_for(user):
        return "You wrote this revision. Somebody else must decide."
    if not user.has_role(Role.APPROVER):
        return "Deciding takes the approver role."
    digest = revision.evaluation.digest if revision.evaluation else ""
    if revision.approvals.filter(reviewer_person=stands_for(user), revision_digest=revision.digest, evidence_digest=digest).exists():
        return "You have decided on this state of the revision already."
    return ""


@action(Role.AUTHOR)
def submit(request: Request, revision_id: UUID) -> HttpResponse:
    revision = _get_revision(revision_id)
    form = SubmitForm(request.POST, revision=revision)
    if accept(request, form):
        with telling(request, "Submitted. Somebody else must approve it."):
            submit_revision(revision_id, evaluation=form.cleaned_data["evaluation"], actor=request.user)
    return redirect("console:revision", revision_id)


@action(Role.APPROVER)
def decide(request: Request, revision_id: UUID) -> HttpResponse:
    """One decision on the state that was on the screen: the form carries its two digests."""
    revision = _get_revision(revision_id)
    form = DecisionForm(request.POST)
    if accept(request, form):
        data = form.cleaned_data
        decision = data.pop("decision")
        service, done = _DECISIONS[decision]
        with telling(request, done):
            service(revision.pk, reviewer=request.user, **data)
    return redirect("console:revision", revision_id)


@action(*Role.values)
def comment(request: Request, revision_id: UUID) -> HttpResponse:
    """Anybody with a role says something, and decides nothing."""
    revision = _get_revision(revision_id)
    form = CommentForm(request.POST)
    if accept(request, form):
        with telling(request, "Your comment is recorded."):
            comment_on_revision(revision.pk, author=request.user, text=form.cleaned_data["text"])
    return redirect("console:revision", revision_id)


@action(Role.APPROVER, Role.OPERATOR)
def retire(request: Request, revision_id: UUID) -> HttpResponse:
    revision = _get_revision(revision_id)
    form = ReasonForm(request.POST)
    if accept(request, form):
        with telling(request, "Retired. No flag steers with it from the next snapshot on."):
            retire_revision(revision.pk, reason=form.cleaned_data["reason"], actor=request.user)
    return redirect("console:revision", revision_id)


@page()
def download_evidence(request: Request, revision_id: UUID) -> HttpResponse:
    """The evidence, byte for byte as it was hashed."""
    revision = _get_revision(revision_id)
    if revision.evaluation is None:
        return HttpResponse("This revision names no evidence yet.", status=404, content_type="text/plain")
    digest = revision.evaluation.digest
    try:
        data = get_blob(digest)
    except BlobMissing as error:
        return HttpResponse(f"{error.message} ({error.code})", status=404, content_type="text/plain")
    return HttpResponse(
        data, content_type="application/json", headers={"Content-Disposition": f'attachment; filename="evidence-{digest[:12]}.json"'}
    )


def _get_revision(revision_id: UUID) -> ProfileRevision:
    related = ("profile__risk_class", "author__acts_for", "base_model", "evaluation__vector")
    return get_object_or_404(ProfileRevision.objects.select_related(*related), pk=revision_id)
