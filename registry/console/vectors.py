"""The page of a vector: where it comes from, what the search saw, and what can be done with it."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from registry.console.documents import read_document, send_picture
from registry.console.evidence import describe_search
from registry.console.forms.vectors import DraftForm, ValidationForm
from registry.console.lineage import trace_vector
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.console.probes import list_probes
from registry.models import Component, Evaluation, Job, JobState, Role, SteeringVector, Unit, VectorComparison
from registry.reads.evidence import latest_evaluation
from registry.reads.forms import list_forms
from registry.reads.probes import probes_judged_with, probes_named_by
from registry.services.comparisons import alpha_in_residual
from registry.services.conditions import find_rows
from registry.services.job_requests import request_validation
from registry.services.profiles import draft_revision
from steernode.records.evidence import read_evidence
from steernode.records.sweep import read_sweep


@page()
def show_vector(request: Request, vector_id: UUID) -> HttpResponse:
    vector = _get_vector(vector_id)
    evaluation = latest_evaluation(vector)
    document = read_document(vector.sweep_digest)
    sweep = read_sweep(document.data)
    evidence = read_evidence(read_document(evaluation.digest).data if evaluation else {})
    alpha = evaluation.alpha if evaluation else vector.proposed_alpha
    return render_page(
        request,
        "console/vector.html",
        title=f"Vector {vector}",
        vector=vector,
        evaluation=evaluation,
        lineage=trace_vector(vector),
        environments=sorted(served.environment.name for served in vector.base_model.served_in.select_related("environment")),
        comparison=_read_comparison(vector),
        problem=document.problem,
        search=describe_search(sweep),
        heatmap_url=reverse("console:heatmap", args=[vector.pk]) if vector.heatmap_digest else "",
        decoding=evidence.decoding,
        acting=evidence.acting,
        judged_probes=list_probes(probes_judged_with(evaluation) if evaluation else probes_named_by(_read_condition(vector))),
        # Once the test split was opened there is nothing left to validate; a running job says so itself.
        running=Job.objects.filter(vector=vector, state__in=[JobState.QUEUED, JobState.RUNNING]).first(),
        draft_unit=Unit(_unit_of(vector, evaluation)).label.lower(),
        # Both forms of the page have an α, and a label leads to its own.
        validation_form=ValidationForm(auto_id="id_validate_%s"),
        draft_form=DraftForm(
            initial=None if alpha is None else {"alpha": f"{alpha.normalize():f}", "alpha_max": f"{alpha.normalize():f}"},
            vector=vector,
            acts=_read_condition(vector),
            relations=list_forms(vector.base_model),
        ),
        acts=_read_condition(vector),
    )


def _read_comparison(vector: SteeringVector) -> dict[str, Any]:
    """What the page says of the version that this one replaces; nothing for the first of its name."""
    comparison = VectorComparison.objects.select_related("replaced", "vector").filter(vector=vector).first()
    if comparison is None:
        return {}
    return {
        "record": comparison,
        "alphas": (alpha_in_residual(comparison.replaced), alpha_in_residual(vector)),
        "evidence": [(name, row) for name, row in (comparison.evidence or {}).items()],
    }


@page()
def show_heatmap(request: Request, vector_id: UUID) -> HttpResponse:
    """The picture of the sweep, as the worker drew it."""
    return send_picture(_get_vector(vector_id).heatmap_digest)


@page()
def show_trace_map(request: Request, vector_id: UUID) -> HttpResponse:
    """The picture of the causal trace, as the worker drew it."""
    return send_picture(_get_vector(vector_id).trace_map_digest)


@action(Role.AUTHOR)
def validate_vector(request: Request, vector_id: UUID) -> HttpResponse:
    form = ValidationForm(request.POST)
    if accept(request, form):
        with telling(request):
            stated = {name: form.cleaned_data[name] for name in ("alpha", "unit", "decoding", "again")}
            stated["gates"] = form.cleaned_data["gates"] or None
            job = request_validation(vector=_get_vector(vector_id), suites=form.suites(), actor=request.user, **stated)
            return redirect("console:job", job.pk)
    return redirect("console:vector", vector_id)


@action(Role.AUTHOR)
def draft_from_vector(request: Request, vector_id: UUID) -> HttpResponse:
    """One component: this vector, in the unit it was evaluated or proposed in."""
    vector = _get_vector(vector_id)
    acts = _read_condition(vector)
    form = DraftForm(request.POST, vector=vector, acts=acts, relations=list_forms(vector.base_model))
    if accept(request, form):
        data = form.cleaned_data
        evaluation = latest_evaluation(vector)
        alphas = {name: data[name] for name in ("alpha", "alpha_min", "alpha_max")}
        probe = data.get("probe")
        condition = {"kind": "probe", "probe": probe} if probe else find_rows(acts)
        component = Component(vector=vector, unit=_unit_of(vector, evaluation), condition=condition, **alphas)
        options = {name: data[name] for name in ("stale_policy", "max_staleness_seconds", "rationale")}
        options["covers"] = data.get("covers", ())
        with telling(request, "Drafted. Submit it with its evidence when it says what you mean."):
            revision = draft_revision(data["profile"], components=[component], author=request.user, **options)
            return redirect("console:revision", revision.pk)
    else:
        messages.info(request, "Nothing was drafted.")
    return redirect("console:vector", vector_id)


def _read_condition(vector: SteeringVector) -> dict[str, Any] | None:
    """Where its recipe has it act: what it is validated for, and drafted with."""
    return vector.job.recipe.get("condition") if vector.job else None


def _unit_of(vector: SteeringVector, evaluation: Evaluation | None) -> str:
    """What α of this vector means: the unit it was judged in, or the one it was proposed in."""
    return evaluation.unit if evaluation else vector.proposed_unit or Unit.MEAN_DIFFERENCE


def _get_vector(vector_id: UUID) -> SteeringVector:
    related = ("base_model", "contrast_set", "job", "author")
    return get_object_or_404(SteeringVector.objects.select_related(*related), pk=vector_id)
