"""Chains: a job that was asked for with a profile goes on by itself, extraction -> validation -> draft revision.

Each link is written in the transaction that completes the job before it, so a message delivered twice finds that job finished
and adds nothing. The rows come first and the events last, because the log's lock comes after all others.
"""

from decimal import Decimal

from django.db import transaction

from registry.models import Job, Profile, ProfileRevision, SteeringVector
from registry.services.components import ComponentSpec
from registry.services.jobs import make_validation
from registry.services.notifications import notify
from registry.services.profiles import record_draft, write_draft
from steernode.errors import SteerError
from steernode.records.evidence import Evidence
from steernode.records.recipe import ValidationRecipe

_LONGEST_NOTE = 300


def follow_extraction(job: Job, vector: SteeringVector) -> Job | None:
    """The row of the validation that comes next, for `queue_job`; None when the chain ends here."""
    if job.draft_for is None:
        return None
    if job.cancel_requested_at is not None:
        job.note = f"no draft of {job.draft_for}: the job was cancelled as it finished"
        return None
    return make_validation(vector, draft_for=job.draft_for, follows=job, requested_by=job.requested_by)


def draft_validated(job: Job, vector: SteeringVector, evidence: Evidence) -> ProfileRevision | None:
    """The draft that a validation ends as, at its α in a range from 0 to it. None, and a note on the job, when there is none."""
    if job.draft_for is None:
        return None
    if job.cancel_requested_at is not None:
        why_not = "the job was cancelled as it finished"
    elif not evidence.passed:
        failed = [f"{gate.metric} ({gate.value}, threshold {gate.threshold})" for gate in evidence.gates if gate.verdict != "pass"]
        why_not = f"gates failed on {', '.join(failed) or 'the whole'}"
    else:
        try:
            # A savepoint: what a policy refuses leaves the evidence, and no half of a draft.
            with transaction.atomic():
                return _write(job, job.draft_for, vector)
        except SteerError as error:
            why_not = f"{error.code}: {error.message}"
    job.note = f"no draft of {job.draft_for}: {why_not}"[:_LONGEST_NOTE]
    return None


def _write(job: Job, profile: Profile, vector: SteeringVector) -> ProfileRevision:
    recipe = ValidationRecipe.from_document(job.recipe)
    alpha = Decimal(recipe.alpha)
    component = ComponentSpec(vector, alpha, min(alpha, Decimal(0)), max(alpha, Decimal(0)), recipe.unit)
    return write_draft(
        profile,
        components=[component],
        author=job.requested_by,
        drafted_by=job,
        rationale=f"{vector} at the α that its search proposed and its validation passed.",
    )


def tell_of_draft(job: Job, draft: ProfileRevision | None) -> None:
    """Record the draft, and tell whoever asked for it how the chain ended."""
    if draft is None:
        notify([job.requested_by], f"{job.vector}: {job.note}", about=job)
        return
    record_draft(draft)
    notify(
        [job.requested_by], f"{draft} is drafted from {job.vector}. Submit it with its evidence when it says what you mean.", about=draft
    )
