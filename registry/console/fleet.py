"""The fleet: which node runs which snapshot, and which does not."""

from django.http import HttpResponse

from registry.console.forms.fleet import NodeForm
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.models import Environment, Role, ServingNode
from registry.reads.clocks import hub_ahead_seconds, say_disagreement
from registry.reads.fleet import judge_nodes
from registry.reads.steering import head_snapshot
from registry.services.nodes import enroll_node


@page()
def show_fleet(request: Request) -> HttpResponse:
    return _show(request)


@action(Role.OPERATOR)
def enroll(request: Request) -> HttpResponse:
    """Enrol a node. Its token is on this answer and nowhere else, so there is no redirect."""
    form = NodeForm(request.POST)
    token = ""
    if accept(request, form):
        with telling(request, "Enrolled."):
            _, token = enroll_node(form.cleaned_data["name"], environment=form.cleaned_data["environment"], actor=request.user)
    return _show(request, token=token)


def _show(request: Request, token: str = "") -> HttpResponse:
    return render_page(
        request,
        "console/fleet.html",
        title="Fleet",
        clock=say_disagreement(hub_ahead_seconds()),
        nodes=judge_nodes(ServingNode.objects.all()),
        environments=[(environment, head_snapshot(environment)) for environment in Environment.objects.all()],
        form=NodeForm(),
        token=token,
    )
