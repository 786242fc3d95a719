"""The kill switch: one person stops, two people lift."""

from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme

from registry.console.forms.kills import KillForm
from registry.console.pages import MAY_KILL, Request, accept, action, page, render_page, telling
from registry.models import Kill, User
from registry.reads.visibility import kills_visible_to
from registry.services.kills import confirm_lift, engage_kill, request_lift
from registry.services.people import stands_for


@page(limited=True)
def show_kills(request: Request) -> HttpResponse:
    people = ("engaged_by", "reported_by", "lift_requested_by", "lifted_by")
    seen = kills_visible_to(request.user, Kill.objects.select_related(*people))
    return render_page(
        request,
        "console/kills.html",
        title="Kill switch",
        kill_form=KillForm(seen_by=request.user),
        kills=[(kill, may_confirm(kill, request.user)) for kill in seen.filter(lifted_at__isnull=True)],
        lifted=seen.filter(lifted_at__isnull=False)[:50],
    )


def may_confirm(kill: Kill, user: User) -> bool:
    """Whether this person would be the second one of a lift."""
    return kill.lift_requested_by is not None and stands_for(kill.lift_requested_by) != stands_for(user)


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
    with telling(request, "Lift requested. A second person must confirm it."):
        request_lift(kill_id, actor=request.user)
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
