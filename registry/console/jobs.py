"""The page of a job: how far it is, what went wrong, what came out."""

from typing import Any
from uuid import UUID

from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from registry.audit import Action
from registry.audit.history import events_of
from registry.console.documents import read_document, send_picture, title_gates
from registry.console.evidence import describe_evaluation, describe_search
from registry.console.pages import Request, action, page, render_page, telling
from registry.models import AuditEvent, Evaluation, Job, Probe, ProfileRevision, Role, SteeringVector
from registry.reads.openings import count_looks
from registry.reads.probes import probes_named_by
from registry.services.jobs import request_cancel
from registry.templatetags.console import arguments, condition, notices, speed, time_left
from steernode.records.evidence import read_gates
from steernode.records.sweep import read_sweep

# What a recipe calls otherwise than people do, or than something else beside it.
_NAMES = {"condition": "acts", "alpha": "α", "alphas": "α grid", "dtype": "vector stored as", "model_dtype": "model run in"}


@page()
def show_job(request: Request, job_id: UUID) -> HttpResponse:
    jobs = Job.objects.select_related(
        "base_model", "contrast_set", "prompt_set", "vector", "revision__profile", "requested_by", "draft_for", "follows", "followed_by"
    )
    job = get_object_or_404(jobs, pk=job_id)
    extracted = SteeringVector.objects.filter(job=job).first()
    evaluation = Evaluation.objects.filter(job=job).select_related("vector", "revision__profile").first()
    # One that found a cell left its search with its vector.
    searched = read_document(extracted.sweep_digest if extracted else job.sweep_digest)
    return render_page(
        request,
        "console/job.html",
        title=f"{job.get_kind_display()} job {str(job.pk)[:8]}",
        job=job,
        extracted=extracted,
        probe=Probe.objects.filter(job=job).first(),
        search=describe_search(read_sweep(searched.data)),
        search_problem=searched.problem if job.sweep_digest else "",
        heatmap_url=_find_heatmap(job, extracted),
        **describe_evaluation(evaluation),
        looks=count_looks(evaluation) if evaluation else {},
        chain=_trace_chain(job) if job.draft_for else [],
        drafted=ProfileRevision.objects.filter(drafted_by__in=[job, getattr(job, "followed_by", None)]).select_related("profile").first(),
        suites=job.suites.all(),
        named_probes=probes_named_by(job.recipe.get("condition")),
        cancelled_by=_find_who_cancelled(job),
        recipe=[(_NAMES.get(key, key.replace("_", " ")), _write_entry(key, value)) for key, value in sorted(job.recipe.items())],
    )


def _find_heatmap(job: Job, extracted: SteeringVector | None) -> str:
    if extracted is not None and extracted.heatmap_digest:
        return reverse("console:heatmap", args=[extracted.pk])
    return reverse("console:job-heatmap", args=[job.pk]) if job.heatmap_digest else ""


@page()
def show_job_heatmap(request: Request, job_id: UUID) -> HttpResponse:
    """The picture of a search in which no cell passed."""
    return send_picture(get_object_or_404(Job, pk=job_id).heatmap_digest)


def _find_who_cancelled(job: Job) -> AuditEvent | None:
    """The event that says who asked the job to stop first."""
    if job.cancel_requested_at is None:
        return None
    return events_of(job).filter(action=Action.JOB_CANCEL_REQUESTED).defer("body").last()


def _trace_chain(job: Job) -> list[Job]:
    """The jobs of the chain in their order; those that do not exist yet are not there."""
    first = job.follows or job
    following = Job.objects.filter(follows=first).first()
    return [first, following] if following else [first]


def _write_entry(key: str, value: Any) -> str:
    if key == "condition":
        return condition(value)
    if key == "gates" and isinstance(value, list):
        return "; ".join(f"{title}: {rule} {gate.threshold}" for title, rule, gate in title_gates(read_gates(value)))
    if key == "gate_set" and isinstance(value, dict):
        return f"{value.get('name')} v{value.get('version')}"
    # Their names are the template's own, and no words of ours.
    return (arguments(value) or "none") if key == "template_arguments" else _write(value)


def _write(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_write(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ("; " if any(isinstance(item, dict) for item in value) else ", ").join(_write(item) for item in value)
    return str(value)


@page()
def job_progress(request: Request, job_id: UUID) -> HttpResponse:
    """What the page asks for every second while the job is not finished."""
    job = get_object_or_404(Job, pk=job_id)
    return JsonResponse(
        {
            "state": job.state,
            "stage": job.stage,
            "done": job.progress_done,
            "total": job.progress_total,
            "left": time_left(job),
            "speed": speed(job),
            "note": job.note,
            "notices": notices(job),
            "attempt": job.attempt,
            "finished": job.is_finished,
        }
    )


@action(Role.AUTHOR, Role.OPERATOR)
def cancel_job(request: Request, job_id: UUID) -> HttpResponse:
    with telling(request, "Asked to stop."):
        request_cancel(job_id, actor=request.user)
    return redirect("console:job", job_id)
