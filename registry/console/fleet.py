"""The fleet: which node runs which snapshot, and which does not."""

from django.http import HttpResponse
from django.shortcuts import redirect

from registry.console.forms.fleet import NodeForm, RotateForm, WithdrawForm
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.models import Environment, Role, ServingNode, StopStatement
from registry.reads.clocks import hub_ahead_seconds, say_disagreement
from registry.reads.fleet import judge_nodes
from registry.reads.steering import head_snapshot
from registry.services.nodes import invite_node, reenroll_node, rotate_node, withdraw_node


@page()
def show_fleet(request: Request) -> HttpResponse:
    return _show(request)


@action(Role.OPERATOR)
def invite(request: Request) -> HttpResponse:
    """Invite a node. The token it enrols with is on this answer and nowhere else, so there is no redirect."""
    form = NodeForm(request.POST)
    token = ""
    if accept(request, form):
        with telling(request, "Invited."):
            _, token = invite_node(form.cleaned_data["name"], environment=form.cleaned_data["environment"], actor=request.user)
    return _show(request, token=token)


@action(Role.OPERATOR)
def rotate(request: Request) -> HttpResponse:
    """A token to enrol with again: for another token and key, or for a withdrawn node to come back."""
    form = RotateForm(request.POST)
    token = ""
    if accept(request, form):
        node = form.cleaned_data["node"]
        with telling(request, f"{node} may enrol again."):
            _, token = (rotate_node if node.is_active else reenroll_node)(node, actor=request.user)
    return _show(request, token=token)


@action(Role.OPERATOR)
def withdraw(request: Request) -> HttpResponse:
    """Give a node nothing more."""
    form = WithdrawForm(request.POST)
    if accept(request, form):
        node = form.cleaned_data["node"]
        with telling(request, f"{node} is withdrawn."):
            withdraw_node(node, reason=form.cleaned_data["reason"], actor=request.user)
    return redirect("console:fleet")


def _show(request: Request, token: str = "") -> HttpResponse:
    return render_page(
        request,
        "console/fleet.html",
        title="Fleet",
        clock=say_disagreement(hub_ahead_seconds()),
        stop=StopStatement.objects.defer("payload_zlib").first(),
        nodes=judge_nodes(ServingNode.objects.all()),
        environments=[(environment, head_snapshot(environment)) for environment in Environment.objects.all()],
        form=NodeForm(),
        rotate_form=RotateForm(auto_id="rotate_%s"),
        withdraw_form=WithdrawForm(auto_id="withdraw_%s"),
        token=token,
    )
