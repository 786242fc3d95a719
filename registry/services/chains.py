"""Chains: a job that was asked for with a profile goes on by itself, extraction -> validation -> draft revision.

Each link is written in the transaction that completes the job before it, so a message delivered twice finds that job finished
and adds nothing.
"""

from decimal import Decimal
from typing import Any

from django.db import transaction

from registry.errors import TransitionRefused
from registry.models import Component, Job, Profile, ProfileRevision, SteeringVector
from registry.services.conditions import find_rows
from registry.services.job_requests import queue_validation
from registry.services.notifications import notify
from registry.services.profiles import draft_revision
from steernode.errors import SteerError
from steernode.gates import UNDECIDABLE
from steernode.records.evidence import Evidence, blocking_gates
from steernode.records.recipe import ValidationRecipe

_LONGEST_NOTE = 300
_CANCELLED = "the job was cancelled as it finished"


def follow_extraction(job: Job, vector: SteeringVector) -> None:
    """The validation that comes after a completed extraction, with the same suites."""
    if job.draft_for is None:
        return
    if job.cancel_requested_at is not None:
        _end(job, job.draft_for, _CANCELLED)
        return
    said: dict[str, Any] = {"draft_for": job.draft_for, "follows": job, "requested_by": job.requested_by, "again": True}
    try:
        with transaction.atomic():
            queue_validation(vector, suites=list(job.suites.all()), **said)
    except TransitionRefused as error:
        # Somebody else looked at the test items meanwhile. The vector stays, and is validated on others.
        _end(job, job.draft_for, f"{error.code}: {error.message}")
        notify([job.requested_by], f"{vector}: {job.note}", about=job)


def follow_validation(job: Job, vector: SteeringVector, evidence: Evidence) -> None:
    """The draft that a completed validation ends as, or a note of why there is none. Whoever asked for it is notified of either."""
    profile = job.draft_for
    if profile is None:
        return
    why_not = _find_refusal(job, evidence)
    if not why_not:
        try:
            # A savepoint: what a policy refuses leaves the evidence, and no half of a draft.
            with transaction.atomic():
                draft = _draft(job, profile, vector)
        except SteerError as error:
            why_not = f"{error.code}: {error.message}"
        else:
            text = f"{draft} is drafted from {vector}. Submit it with its evidence when it says what you mean."
            notify([job.requested_by], text, about=draft)
            return
    _end(job, profile, why_not)
    notify([job.requested_by], f"{vector}: {job.note}", about=job)


def _find_refusal(job: Job, evidence: Evidence) -> str:
    if job.cancel_requested_at is not None:
        return _CANCELLED
    if evidence.passed:
        return ""
    named = ", ".join(gate.describe() for gate in blocking_gates(evidence.gates)) or "the whole"
    return f"nothing can be concluded on {named}" if evidence.verdict == UNDECIDABLE else f"gates failed on {named}"


def _draft(job: Job, profile: Profile, vector: SteeringVector) -> ProfileRevision:
    """At the validated α, in a range from 0 to it, and only where it was validated."""
    recipe = ValidationRecipe.from_document(job.recipe)
    alpha = Decimal(recipe.alpha)
    lowest, highest = sorted((alpha, Decimal(0)))
    condition = None if recipe.condition is None else find_rows(dict(recipe.condition))
    component = Component(vector=vector, alpha=alpha, alpha_min=lowest, alpha_max=highest, unit=recipe.unit, condition=condition)
    return draft_revision(
        profile,
        components=[component],
        author=job.requested_by,
        drafted_by=job,
        rationale=f"{vector} at the α that its search proposed and its validation passed.",
    )


def _end(job: Job, profile: Profile, why_not: str) -> None:
    job.note = f"no draft of {profile}: {why_not}"[:_LONGEST_NOTE]
    job.save(update_fields=["note"])
