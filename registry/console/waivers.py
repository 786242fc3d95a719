"""Waivers on the page of a revision: which gates nothing can be concluded on, and who answers for each."""

from dataclasses import dataclass
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import redirect

from registry.console.documents import title_gates
from registry.console.forms.fields import ReasonForm
from registry.console.forms.revisions import WaiverForm
from registry.console.pages import Request, accept, action, telling
from registry.models import Evaluation, ProfileRevision, RevisionState, Role, User, Waiver
from registry.reads.waivers import gate_of, rested_on, undecidable_gates, why_not_counted
from registry.services.people import stands_for
from registry.services.waivers import ask_waiver, confirm_waiver, state_of, withdraw_waiver
from steernode.records.evidence import JudgedGate


@dataclass(frozen=True, slots=True)
class GivenWaiver:
    """A waiver with what this person may do with it."""

    waiver: Waiver
    state: str
    # Why it counts for nothing on this page, though it is asked for or in force.
    why_not: str
    may_confirm: bool
    # To withdraw it; None where this person may not, or there is nothing left to withdraw.
    form: ReasonForm | None


@dataclass(frozen=True, slots=True)
class OpenGate:
    """One undecidable gate, its waivers, and the form to ask for one; None where this person may not, or one that counts is under way.
    `part` is what was judged alone where the revision is of several components."""

    title: str
    rule: str
    gate: JudgedGate
    evaluation: Evaluation
    part: str
    given: list[GivenWaiver]
    form: WaiverForm | None


def list_open_gates(revision: ProfileRevision, evaluation: Evaluation | None, user: User) -> list[OpenGate]:
    rows: list[OpenGate] = []
    for judged in rested_on(revision, evaluation):
        part = str(judged) if judged != evaluation else ""
        waivers = list(judged.waivers.select_related("asked_by__acts_for", "confirmed_by__acts_for", "withdrawn_by"))
        # What whoever wrote the revision says would count elsewhere, and not here.
        may_answer = user.has_role(Role.APPROVER) and stands_for(user) not in {*judged.judged_people, stands_for(revision.author)}
        for title, rule, gate in title_gates(undecidable_gates(judged)):
            given = [_describe(waiver, revision, user, may_answer) for waiver in waivers if gate_of(waiver) == gate_of(gate)]
            # One that does not count here is in the way of nobody but the two who gave it.
            standing = [each for each in given if each.state in ("asked", "in force")]
            is_answered = any(
                not each.why_not or stands_for(user) in (each.waiver.asked_by_person, each.waiver.confirmed_by_person) for each in standing
            )
            typed = dict(zip(("metric", "kind", "threshold"), gate_of(gate), strict=True))
            form = WaiverForm(initial=typed, auto_id=f"id_waiver_{len(rows)}_%s") if may_answer and not is_answered else None
            rows.append(OpenGate(title, rule, gate, judged, part, given, form))
    return rows


def _describe(waiver: Waiver, revision: ProfileRevision, user: User, may_answer: bool) -> GivenWaiver:
    state = state_of(waiver)
    may_withdraw = state in ("asked", "in force") and user.has_role(Role.APPROVER, Role.OPERATOR)
    # Once it is decided on, it stays so whoever left since.
    is_pending = state in ("asked", "in force") and revision.state in (RevisionState.DRAFT, RevisionState.SUBMITTED)
    return GivenWaiver(
        waiver=waiver,
        state=state,
        why_not=why_not_counted(waiver, revision.author) if is_pending else "",
        may_confirm=state == "asked" and may_answer and waiver.asked_by_person != stands_for(user),
        form=ReasonForm(auto_id=f"id_withdraw_{waiver.pk}_%s") if may_withdraw else None,
    )


@action(Role.APPROVER)
def ask(request: Request, revision_id: UUID, evaluation_id: UUID) -> HttpResponse:
    form = WaiverForm(request.POST)
    if accept(request, form):
        with telling(request, "Asked. Another approver must confirm it."):
            ask_waiver(evaluation_id, actor=request.user, **form.cleaned_data)
    return redirect("console:revision", revision_id)


@action(Role.APPROVER)
def confirm(request: Request, revision_id: UUID, waiver_id: UUID) -> HttpResponse:
    with telling(request, "Confirmed. It counts until it ends or is withdrawn."):
        confirm_waiver(waiver_id, actor=request.user)
    return redirect("console:revision", revision_id)


@action(Role.APPROVER, Role.OPERATOR)
def withdraw(request: Request, revision_id: UUID, waiver_id: UUID) -> HttpResponse:
    form = ReasonForm(request.POST)
    if accept(request, form):
        with telling(request, "Withdrawn. What rested on it steers no more."):
            withdraw_waiver(waiver_id, reason=form.cleaned_data["reason"], actor=request.user)
    return redirect("console:revision", revision_id)
