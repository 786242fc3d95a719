"""Jobs, once they are queued: claim by lease, report, finish. The row is the truth; a worker owns it only while its attempt is current."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import F, Q
from django.utils import timezone

from registry.audit import Action, record
from registry.dispatch import send_job
from registry.errors import NotFound, TransitionRefused
from registry.models import Job, JobState, User
from registry.services.notifications import notify
from registry.services.transition import transition

# A queued job whose message was lost is sent again after this long.
RESEND_AFTER = timedelta(seconds=15)


def claim_job(job_id: UUID | str, *, worker: str) -> Job | None:
    """queued -> running, or running with a lapsed lease -> running as the next attempt. None when it is not ours to run.

    One conditional UPDATE: of two workers with the same message, one sees a row.
    """
    now = timezone.now()
    claimed = Job.objects.filter(_claimable(now), pk=job_id, attempt__lt=F("max_attempts")).update(
        state=JobState.RUNNING,
        attempt=F("attempt") + 1,
        lease_owner=worker,
        lease_expires_at=now + timedelta(seconds=settings.STEERHUB_LEASE_SECONDS),
        started_at=now,
        # What the last attempt expected counted the time that it did not have.
        expected_at=None,
        tokens_per_second=None,
    )
    if not claimed:
        return None
    return Job.objects.select_related("base_model", "contrast_set", "prompt_set", "vector__base_model", "revision", "requested_by").get(
        pk=job_id
    )


def _claimable(now: Any) -> Q:
    return Q(state=JobState.QUEUED) | Q(state=JobState.RUNNING, lease_expires_at__lt=now)


def renew_lease(job: Job) -> bool:
    """Whether the attempt is still ours and nobody asked to cancel. Call it every few seconds while working."""
    now = timezone.now()
    return bool(
        _ours(job)
        .filter(cancel_requested_at__isnull=True)
        .update(lease_expires_at=now + timedelta(seconds=settings.STEERHUB_LEASE_SECONDS))
    )


def report_progress(job: Job, *, stage: str, note: str = "", **measured: Any) -> None:
    """What a person watching sees; `measured` are the other fields of progress. A lost lease shows at the next renewal, not here."""
    _ours(job).update(stage=stage, note=note[:300], **measured)


@transition
def fail_job(job: Job, *, code: str, message: str) -> bool:
    """running -> failed, for a reason that another attempt would meet again. False when the attempt is no longer ours."""
    locked = lock_attempt(job)
    if locked is None:
        return False
    end_failed(locked, code=code, message=message)
    return True


def release_job(job: Job, *, note: str) -> bool:
    """Give the attempt up: its lease lapses now, and the sweeper sends the job again or, after the last attempt, fails it."""
    return bool(_ours(job).update(lease_expires_at=timezone.now(), note=note[:300]))


@transition
def request_cancel(job_id: UUID, *, actor: User) -> Job:
    """queued -> cancelled; running -> asked to stop, and cancelled when the worker notices.

    Raises: NotFound JOB_NOT_FOUND; TransitionRefused JOB_FINISHED.
    """
    job = Job.objects.select_for_update(of=("self",)).select_related("base_model").filter(pk=job_id).first()
    if job is None:
        raise NotFound("JOB_NOT_FOUND", "no such job", str(job_id))
    if job.is_finished:
        following = Job.objects.filter(follows=job, finished_at__isnull=True).first()
        hint = f"; it goes on as {following.kind} {following.pk}, which can be cancelled" if following else ""
        raise TransitionRefused("JOB_FINISHED", f"{job} is {job.state} already{hint}", str(job_id))
    job.cancel_requested_at = timezone.now()
    job.save(update_fields=["cancel_requested_at"])
    record(Action.JOB_CANCEL_REQUESTED, actor=actor, subject=job, base_model_fingerprint=job.base_model.fingerprint)
    if job.state == JobState.QUEUED:
        _finish(job, JobState.CANCELLED)
        _record_end(job, Action.JOB_CANCELLED, {})
    return job


@transition
def confirm_cancel(job: Job) -> bool:
    """running and asked to stop -> cancelled."""
    locked = lock_attempt(job)
    if locked is None or locked.cancel_requested_at is None:
        return False
    _finish(locked, JobState.CANCELLED)
    _record_end(locked, Action.JOB_CANCELLED, {})
    return True


def resend_lost_jobs() -> int:
    """Send again what no worker holds; end what nobody shall take up again. Returns how many jobs were touched."""
    now = timezone.now()
    lost = Job.objects.filter(
        Q(state=JobState.QUEUED, dispatched_at__lt=now - RESEND_AFTER) | Q(state=JobState.RUNNING, lease_expires_at__lt=now)
    )
    return sum(_settle(job_id) for job_id in lost.values_list("pk", flat=True))


def end_abandoned_jobs() -> int:
    """End what lost its worker after it was cancelled, or with its last attempt: for that no worker needs to be free."""
    is_given_up = Q(cancel_requested_at__isnull=False) | Q(attempt__gte=F("max_attempts"))
    abandoned = Job.objects.filter(is_given_up, state=JobState.RUNNING, lease_expires_at__lt=timezone.now())
    return sum(_settle(job_id) for job_id in abandoned.values_list("pk", flat=True))


@transition
def _settle(job_id: UUID) -> bool:
    """What no worker holds: running -> cancelled or failed, or sent again. False when a worker holds it by now."""
    now = timezone.now()
    job = (
        Job.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("base_model")
        .filter(_claimable(now), pk=job_id)
        .first()
    )
    if job is None:
        return False
    if job.cancel_requested_at is not None:
        _finish(job, JobState.CANCELLED)
        _record_end(job, Action.JOB_CANCELLED, {})
    elif job.attempt >= job.max_attempts:
        message = f"{job.attempt} attempts were lost; {job.note or 'the workers ended without a word'}"
        end_failed(job, code="ATTEMPTS_EXHAUSTED", message=message)
    else:
        job.dispatched_at = now
        job.save(update_fields=["dispatched_at"])
        send_job(job)
    return True


def lock_attempt(job: Job) -> Job | None:
    """The job's row, locked, if this attempt still owns it."""
    return Job.objects.select_for_update(of=("self",)).select_related("base_model").filter(**_attempt(job)).first()


def complete_job(job: Job, *, result_digest: str) -> None:
    """running -> succeeded, for a row locked by `lock_attempt` in the caller's transaction."""
    # What was foreseen and did not come about is done, too.
    _finish(job, JobState.SUCCEEDED, result_digest=result_digest, progress_done=job.progress_total)
    _record_end(job, Action.JOB_SUCCEEDED, {"result_digest": result_digest})


def end_failed(job: Job, *, code: str, message: str, **left: str) -> None:
    """running -> failed, for a row locked in the caller's transaction. `left` are digests of what it leaves all the same.

    Who waits for a draft hears of it; anybody else looks at the job.
    """
    _finish(job, JobState.FAILED, error_code=code, error_message=message, **left)
    _record_end(job, Action.JOB_FAILED, {"code": code, "message": message, **left})
    if job.draft_for is not None:
        notify([job.requested_by], f"No draft of {job.draft_for}: its {job.kind} failed. {code}: {message}", about=job)


def _attempt(job: Job) -> dict[str, Any]:
    return {"pk": job.pk, "state": JobState.RUNNING, "attempt": job.attempt}


def _ours(job: Job) -> Any:
    return Job.objects.filter(**_attempt(job))


def _finish(job: Job, state: JobState, **fields: Any) -> None:
    """The stage and the count stay, because they say where it ended; what was said of a job under way does not."""
    ended = {
        "state": state,
        "lease_expires_at": None,
        "finished_at": timezone.now(),
        "expected_at": None,
        "tokens_per_second": None,
        "note": "" if state == JobState.SUCCEEDED else _say_where_it_ended(job),
        **fields,
    }
    job.steps.all().delete()
    for name, value in ended.items():
        setattr(job, name, value)
    job.save(update_fields=list(ended))


def _say_where_it_ended(job: Job) -> str:
    return f"ended with {job.progress_done} of {job.progress_total} done" if job.progress_total else ""


def _record_end(job: Job, action: Action, details: dict[str, Any]) -> None:
    record(
        action,
        actor=job.lease_owner or "scheduler",
        subject=job,
        details={"kind": job.kind, "attempt": job.attempt, **details},
        base_model_fingerprint=job.base_model.fingerprint,
    )
