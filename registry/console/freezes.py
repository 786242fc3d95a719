"""Freeze windows, on the page of the flags that they hold."""

from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect

from registry.console.forms.fields import ReasonForm
from registry.console.forms.flags import FreezeForm
from registry.console.pages import Request, accept, action, telling
from registry.models import Freeze
from registry.reads.lookups import get_environment
from registry.services.freezes import MAY_FREEZE, declare_freeze, end_freeze


@action(*MAY_FREEZE)
def declare(request: Request, name: str) -> HttpResponse:
    form = FreezeForm(request.POST)
    if accept(request, form):
        with telling(request, f"{name} is frozen: nothing may raise steering there. Stopping and lowering always may."):
            declare_freeze(get_environment(name), **form.cleaned_data, actor=request.user)
    return redirect("console:environment-flags", name)


@action(*MAY_FREEZE)
def end(request: Request, freeze_id: UUID) -> HttpResponse:
    freeze = get_object_or_404(Freeze.objects.select_related("environment"), pk=freeze_id)
    form = ReasonForm(request.POST)
    if accept(request, form):
        with telling(request, "The freeze is over."):
            end_freeze(freeze_id, reason=form.cleaned_data["reason"], actor=request.user)
    return redirect("console:environment-flags", freeze.environment.name)
