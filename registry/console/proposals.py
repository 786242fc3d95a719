"""The page of proposals: what a move left behind, and one click to extract it again, or to leave it."""

from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import redirect

from registry.console.forms.fields import ReasonForm
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.models import Role
from registry.reads.lookups import open_proposals
from registry.services.proposals import accept_proposal, decline_proposal

_SHOWN = 200


@page()
def show_proposals(request: Request) -> HttpResponse:
    proposals = open_proposals().select_related("vector__author", "vector__base_model", "base_model", "profile")
    return render_page(request, "console/proposals.html", title="Proposals", proposals=proposals[:_SHOWN])


@action(Role.AUTHOR)
def extract_again(request: Request, proposal_id: UUID) -> HttpResponse:
    with telling(request):
        proposal = accept_proposal(proposal_id, actor=request.user)
        return redirect("console:job", proposal.job_id)
    return redirect("console:proposals")


@action(Role.AUTHOR)
def decline(request: Request, proposal_id: UUID) -> HttpResponse:
    form = ReasonForm(request.POST)
    if accept(request, form):
        with telling(request, "Declined. It is off the list, and the log says why."):
            decline_proposal(proposal_id, reason=form.cleaned_data["reason"], actor=request.user)
    return redirect("console:proposals")
