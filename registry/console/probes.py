"""Probes: asking for one, and its page with the ROC curve of the prompts that nothing was chosen by."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect

from registry.console.documents import read_document, send_picture
from registry.console.forms.probes import ProbeForm
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.models import Probe, ProfileRevision, Role
from registry.services.probes import request_probe
from steernode.records.evidence import Estimate, read_estimate


@page(Role.AUTHOR)
def new_probe(request: Request) -> HttpResponse:
    return _ask(request, ProbeForm())


@action(Role.AUTHOR)
def start_probe(request: Request) -> HttpResponse:
    """Queue the job and go to its page; a refused recipe comes back with what was typed."""
    form = ProbeForm(request.POST)
    if accept(request, form):
        with telling(request):
            inputs = {name: form.cleaned_data[name] for name in ("base_model", "prompt_set", "again")}
            job = request_probe(**inputs, recipe=form.recipe(), actor=request.user)
            return redirect("console:job", job.pk)
    return _ask(request, form)


def _ask(request: Request, form: ProbeForm) -> HttpResponse:
    return render_page(
        request,
        "console/form.html",
        title="New probe",
        form=form,
        action_view="console:start-probe",
        submit="Train the probe",
        lead="The job fits a probe to the train split at each layer, chooses layer and threshold on the select split, and says on the test "
        "split how well it tells the prompts apart.",
    )


@page()
def show_probe(request: Request, probe_id: UUID) -> HttpResponse:
    probe = get_object_or_404(Probe.objects.select_related("base_model", "prompt_set", "job", "author"), pk=probe_id)
    document = read_document(probe.document_digest)
    return render_page(
        request,
        "console/probe.html",
        title=f"Probe {probe}",
        probe=probe,
        problem=document.problem,
        rows=list_measured(probe.held_out),
        layers=[(each.get("layer"), read_estimate(each.get("auc"))) for each in document.data.get("layers", [])],
        revisions=ProfileRevision.objects.filter(probes__contains=[{"document": probe.document_digest}]).select_related("profile"),
    )


@page()
def show_roc(request: Request, probe_id: UUID) -> HttpResponse:
    """The ROC curve, as the worker drew it."""
    return send_picture(get_object_or_404(Probe, pk=probe_id).roc_digest)


Row = tuple[str, Any, Any, Estimate | None, Estimate | None, Estimate | None]


def list_probes(probes: Iterable[Probe]) -> list[tuple[Probe, list[Row]]]:
    """For `console/_probes.html`: each with what its test split says."""
    return [(probe, list_measured(probe.held_out)) for probe in probes]


def list_measured(held_out: dict[str, Any]) -> list[Row]:
    """For a table: the whole test split, then its locales, then its kinds of prompts. Name, positives, negatives, AUC, and both rates."""
    named = [("All", held_out)]
    for group, noun in (("by_locale", ""), ("by_kind", "kind ")):
        named += [(f"{noun}{name}", part) for name, part in held_out.get(group, {}).items()]
    return [_measured(name, part) for name, part in named]


def _measured(name: str, part: dict[str, Any]) -> Row:
    auc, hits, false_alarms = (read_estimate(part.get(each)) for each in ("auc", "true_positive_rate", "false_positive_rate"))
    return name, part.get("positives"), part.get("negatives"), auc, hits, false_alarms
