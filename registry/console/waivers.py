"""Waivers on the page of a revision: which gates nothing can be concluded on, and who answers for each."""

from dataclasses import dataclass
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import redirect

from registry.console.documents import title_gates
from registry.console.forms.fields import ReasonForm
from registry.console.forms.revisions import WaiverForm
from registry.console.pages import Request, accept, action, telling
from registry.models import Evaluation, Role, User, Waiver
from registry.reads.waivers import gate_of, judged_people, undecidable_gates
from registry.services.people import stands_for
from registry.services.waivers import ask_waiver, confirm_waiver, state_of, withdraw_waiver
from steernode.records.evidence import JudgedGate


@dataclass(frozen=True, slots=True)
class GivenWaiver:
    """A waiver with what this person may do with it."""

    waiver: Waiver
    state: str
    may_confirm: bool
    # To withdraw it; None where this person may not, or there is nothing left to withdraw.
    form: ReasonForm | None


@dataclass(frozen=True, slots=True)
class OpenGate:
    """One undecidable gate, its waivers, and the form to ask for one; None where this person may not, or one is under way."""

    title: str
    rule: str
    gate: JudgedGate
    given: list[GivenWaiver]
    form: WaiverForm | None


def list_open_gates(evaluation: Evaluation | None, user: User) -> list[OpenGate]:
    if evaluation is None:
        return []
    waivers = list(evaluation.waivers.select_related("asked_by", "confirmed_by", "withdrawn_by"))
    may_answer = user.has_role(Role.APPROVER) and stands_for(user) not in judged_people(evaluation)
    rows = []
    for title, rule, gate in title_gates(undecidable_gates(evaluation)):
        given = [_describe(waiver, user, may_answer) for waiver in waivers if gate_of(waiver) == gate_of(gate)]
        is_answered = any(each.state in ("asked", "in force") for each in given)
        typed = dict(zip(("metric", "kind", "threshold"), gate_of(gate), strict=True))
        form = WaiverForm(initial=typed, auto_id=f"id_waiver_{len(rows)}_%s") if may_answer and not is_answered else None
        rows.append(OpenGate(title, rule, gate, given, form))
    return rows


def _describe(waiver: Waiver, user: User, may_answer: bool) -> GivenWaiver:
    state = state_of(waiver)
    may_withdraw = state in ("asked", "in force") and user.has_role(Role.APPROVER, Role.OPERATOR)
    return GivenWaiver(
        waiver=waiver,
        state=state,
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
