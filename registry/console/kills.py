"""The kill switch: one person stops, two people lift."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme

from registry.audit import Action
from registry.audit.history import details_of
from registry.console.forms.kills import KillForm, LiftForm
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.models import MAY_KILL, AuditEvent, Kill, User
from registry.reads.lifts import LiftStanding, lift_standing
from registry.reads.obedience import Obedience, with_obedience
from registry.reads.visibility import kills_visible_to
from registry.services.kills import confirm_lift, engage_kill, request_lift, withdraw_lift
from registry.services.people import stands_for

_AGAIN_SHOWN = 5


@page(limited=True)
def show_kills(request: Request) -> HttpResponse:
    people = ("engaged_by", "reported_by", "lift_requested_by__acts_for", "lifted_by")
    seen = kills_visible_to(request.user, Kill.objects.select_related("tenant", *people))
    return render_page(
        request,
        "console/kills.html",
        title="Kill switch",
        kill_form=KillForm(seen_by=request.user),
        lift_form=LiftForm(),
        kills=view_kills(seen.filter(lifted_at__isnull=True), request.user),
        lifted=seen.filter(lifted_at__isnull=False)[:50],
    )


class Again(NamedTuple):
    reason: str
    actor: str
    at: datetime


@dataclass(frozen=True)
class KillView:
    """A kill in force, what became of the request to lift it, and whether this person would be the second one."""

    kill: Kill
    # What became of it on the nodes.
    obeyed: Obedience
    # Newest first: who killed again what was killed already, and why.
    again: list[Again]
    standing: LiftStanding
    may_confirm: bool


def view_kills(kills: QuerySet[Kill], user: User) -> list[KillView]:
    found = with_obedience(kills)
    again = _read_again([kill for kill, _ in found])
    return [_view(kill, obeyed, again[str(kill.pk)], user) for kill, obeyed in found]


def _view(kill: Kill, obeyed: Obedience, again: list[Again], user: User) -> KillView:
    standing, asked_by = lift_standing(kill), kill.lift_requested_by
    is_second = asked_by is not None and stands_for(asked_by) != stands_for(user)
    return KillView(kill, obeyed, again, standing, is_second and standing == LiftStanding.PENDING)


def _read_again(kills: Sequence[Kill]) -> dict[str, list[Again]]:
    """By the id of the kill, the last few times that somebody killed again what was killed already."""
    found = defaultdict[str, list[Again]](list)
    events = AuditEvent.objects.filter(
        object_type=Kill._meta.model_name, object_id__in=[str(kill.pk) for kill in kills], action=Action.KILL_ENGAGED_AGAIN
    )
    for event in events.order_by("-seq"):
        if len(found[event.object_id]) < _AGAIN_SHOWN:
            found[event.object_id].append(Again(str(details_of(event).get("reason", "")), event.actor_name, event.occurred_at))
    return found


@action(*MAY_KILL, limited=True)
def engage(request: Request) -> HttpResponse:
    """Stop now. There is no question in between: a kill only ever reduces steering."""
    form = KillForm(request.POST, seen_by=request.user)
    if accept(request, form):
        stated = form.stated()
        with telling(request, f"Killed: {stated['target'] or 'everything'}. The stop is on its way to every node."):
            engage_kill(**stated, actor=request.user)
    return _back(request)


@action(*MAY_KILL, limited=True)
def ask_to_lift(request: Request, kill_id: UUID) -> HttpResponse:
    form = LiftForm(request.POST)
    if accept(request, form):
        with telling(request, "Lift requested. A second person must confirm it, within a day."):
            request_lift(kill_id, reason=form.cleaned_data["reason"], actor=request.user)
    return _back(request)


@action(*MAY_KILL, limited=True)
def take_back(request: Request, kill_id: UUID) -> HttpResponse:
    with telling(request, "The request is withdrawn; the kill stays in force."):
        withdraw_lift(kill_id, reason=request.POST.get("reason", "")[:2000], actor=request.user)
    return _back(request)


@action(*MAY_KILL, limited=True)
def lift(request: Request, kill_id: UUID) -> HttpResponse:
    with telling(request, "Lifted. What is approved and flagged steers again."):
        confirm_lift(kill_id, actor=request.user)
    return _back(request)


def _back(request: Request) -> HttpResponse:
    """To the page the button was on, if that is one of ours."""
    target = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(target, allowed_hosts={request.get_host()}, require_https=request.is_secure()):
        return redirect(target)
    return redirect("console:kills")
