"""The page of a base model: where it is served, how it differs from the one before, and what a move would take with it."""

from dataclasses import dataclass
from typing import cast
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect

from registry.console.confirming import ask, do_or_ask
from registry.console.pages import Request, action, page, render_page, telling
from registry.manifests.kinds.raising import change_served, plan_move
from registry.models import BaseModel, Environment, EnvironmentBaseModel, Role
from registry.reads.forms import list_forms
from registry.reads.lookups import get_environment, registered_before
from registry.reads.steering import flags_left_behind
from steernode.behaviour import read_behaviour
from steernode.comparison import read_comparison
from steernode.files.drift import describe_drift
from steernode.files.forms import describe_form


@dataclass(frozen=True)
class EnvironmentView:
    """One environment, as a move of it to this base model would find it."""

    environment: Environment
    served: EnvironmentBaseModel | None
    is_here: bool
    changes: list[str]
    flags_on: int


@page()
def show_base_model(request: Request, base_model_id: UUID) -> HttpResponse:
    base_model = get_object_or_404(BaseModel.objects.select_related("registered_by", "derived_from"), pk=base_model_id)
    earlier = registered_before(base_model)
    return render_page(
        request,
        "console/base_model.html",
        title=f"Base model {base_model.name}",
        subtitle=base_model.fingerprint[:12],
        base_model=base_model,
        earlier=earlier,
        changes=describe_drift(earlier.manifest, base_model.manifest) if earlier else [],
        environments=[_view(environment, base_model) for environment in Environment.objects.all()],
        others=BaseModel.objects.filter(name=base_model.name).exclude(pk=base_model.pk).order_by("-registered_at"),
        behaviour=None if base_model.behaviour is None else read_behaviour(base_model.behaviour, "behaviour"),
        comparison=None if base_model.comparison is None else read_comparison(base_model.comparison, "comparison").describe(),
        relations=[relation for relation in list_forms(base_model) if relation.form.pk != base_model.derived_from_id],
        how_to_measure=f"steer model register {base_model.name} --source {base_model.source} --folder FOLDER",
        form=describe_form(base_model.manifest),
        files=base_model.manifest.get("files", []),
    )


def _view(environment: Environment, base_model: BaseModel) -> EnvironmentView:
    served = environment.served.filter(name=base_model.name).select_related("base_model", "moved_by").first()
    if served is None or served.base_model == base_model:
        return EnvironmentView(environment, served, served is not None, [], 0)
    changes = describe_drift(served.base_model.manifest, base_model.manifest)
    return EnvironmentView(environment, served, False, changes, flags_left_behind(environment, served.base_model, base_model).count())


@action(Role.OPERATOR, Role.APPROVER)
def move_here(request: Request, base_model_id: UUID) -> HttpResponse:
    """Once the person has seen what goes with it, and said why."""
    base_model = get_object_or_404(BaseModel, pk=base_model_id)
    reason = request.POST.get("reason", "").strip()[:2000]
    with telling(request):
        environment = get_environment(request.POST.get("environment", ""))
        title = f"Move {environment}"
        if not reason:
            return ask(request, plan_move(environment, base_model=base_model, actor=request.user), title=title)
        move, question = do_or_ask(
            request,
            lambda confirmed: change_served(environment, base_model=base_model, reason=reason, actor=request.user, confirmed=confirmed),
            lambda: plan_move(environment, base_model=base_model, actor=request.user),
            title=title,
        )
        if move is None:
            return cast(HttpResponse, question)
        off, gone = len(move.flags_off), len(move.invalidated)
        messages.success(request, f"{move.environment} serves {base_model}. Flags turned off: {off}; revisions invalidated: {gone}.")
    return redirect("console:base-model", base_model_id)
