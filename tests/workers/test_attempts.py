"""An attempt owns its job only while its lease holds. Tests are transactional, because the lease renews from its own thread."""

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from registry.models import AuditEvent, Job, JobState, JobStep
from registry.services.deadlines import DEADLINES
from registry.services.job_requests import request_extraction
from registry.services.jobs import (
    claim_job,
    end_abandoned_jobs,
    fail_job,
    release_job,
    renew_lease,
    report_progress,
    request_cancel,
    resend_lost_jobs,
)
from registry.services.steps import Taken, keep_steps, make_step
from steernode.errors import EngineError
from tests.support.files import write_model_folder
from workers.running import run_job
from workers.target import load_target

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def job(ada, base_model, contrast_set, suites) -> Job:
    return request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe={"vector": "empathy"}, actor=ada)


def let_lease_lapse(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))


def step_of(job: Job) -> JobStep:
    return make_step(job, conditions="c" * 64, call="d" * 64, batch=0, data=b"kept", taken=Taken("extracting", "pairs", 5, 0, 1.0))


def events(action: str) -> int:
    return AuditEvent.objects.filter(action=action).count()


def test_same_message_delivered_twice_runs_once(job):
    runs = []

    def work(job, report):
        runs.append(job.attempt)
        assert run_job(str(job.pk), work) == "not ours to run"
        fail_job(job, code="DONE", message="ended by the test")
        return True

    run_job(str(job.pk), work)
    assert run_job(str(job.pk), work) == "not ours to run"
    assert runs == [1]


def test_attempt_whose_lease_lapsed_cannot_finish(job):
    slow = claim_job(job.pk, worker="slow")
    let_lease_lapse(job)
    quick = claim_job(job.pk, worker="quick")
    assert (slow.attempt, quick.attempt) == (1, 2)
    assert not renew_lease(slow)
    assert not fail_job(slow, code="LATE", message="too late")
    assert renew_lease(quick)
    job.refresh_from_db()
    assert job.state == JobState.RUNNING


def test_three_lost_attempts_end_in_failed_not_in_a_loop(job):
    for attempt in (1, 2, 3):
        assert claim_job(job.pk, worker=f"worker-{attempt}").attempt == attempt
        let_lease_lapse(job)
        assert resend_lost_jobs() == 1
    assert claim_job(job.pk, worker="worker-4") is None
    job.refresh_from_db()
    assert (job.state, job.error_code) == (JobState.FAILED, "ATTEMPTS_EXHAUSTED")
    assert resend_lost_jobs() == 0
    assert events("job.failed") == 1


def test_unexpected_error_gives_the_job_back_with_a_note(job):
    def work(job, report):
        raise MemoryError("no room")

    assert run_job(str(job.pk), work).startswith("lost")
    job.refresh_from_db()
    assert job.state == JobState.RUNNING
    assert "MemoryError: no room" in job.note
    assert claim_job(job.pk, worker="next").attempt == 2


def test_error_of_the_job_itself_fails_it_at_once(job):
    def work(job, report):
        raise EngineError("NON_FINITE", "a captured activation is not finite")

    assert run_job(str(job.pk), work) == "failed"
    job.refresh_from_db()
    assert (job.state, job.error_code, job.attempt) == (JobState.FAILED, "NON_FINITE", 1)


def test_cancelled_while_queued_never_runs(job, ada):
    request_cancel(job.pk, actor=ada)
    assert claim_job(job.pk, worker="worker-1") is None
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED


def test_cancelled_while_running_stops_at_the_next_report(job, ada, settings):
    settings.STEERHUB_LEASE_SECONDS = 1

    def work(job, report):
        request_cancel(job.pk, actor=ada)
        for done in range(1000):
            report("counting", progress_done=done, progress_total=1000)
            time.sleep(0.01)
        raise AssertionError("was not stopped")

    assert run_job(str(job.pk), work) == "cancelled"
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    assert events("job.cancelled") == 1


def test_queued_job_whose_message_was_lost_is_sent_again(job):
    assert resend_lost_jobs() == 0
    Job.objects.update(dispatched_at=timezone.now() - timedelta(minutes=1))
    assert resend_lost_jobs() == 1
    assert resend_lost_jobs() == 0


@pytest.mark.parametrize("ended", ["cancelled", "exhausted"])
def test_a_job_that_lost_its_worker_for_good_ends_though_no_worker_is_free(job, ada, ended):
    if ended == "exhausted":
        Job.objects.update(max_attempts=1)
    claim_job(job.pk, worker="gone")
    assert end_abandoned_jobs() == 0
    if ended == "cancelled":
        request_cancel(job.pk, actor=ada)
        assert end_abandoned_jobs() == 0
    let_lease_lapse(job)
    assert end_abandoned_jobs() == 1
    job.refresh_from_db()
    assert job.state == (JobState.CANCELLED if ended == "cancelled" else JobState.FAILED)
    assert end_abandoned_jobs in DEADLINES


def test_a_job_that_may_be_taken_up_again_is_left_to_the_workers(job):
    claim_job(job.pk, worker="gone")
    let_lease_lapse(job)
    assert end_abandoned_jobs() == 0
    assert claim_job(job.pk, worker="next").attempt == 2


def test_release_ends_only_our_own_attempt(job):
    first = claim_job(job.pk, worker="first")
    let_lease_lapse(job)
    second = claim_job(job.pk, worker="second")
    assert not release_job(first, note="late")
    assert renew_lease(second)


def test_model_files_changed_between_attempts_fail_the_job(job, model_root):
    def work(job, report):
        load_target(job.base_model, "float32")

    (model_root / "harbor/chat_template.jinja").write_text("{{ messages }}")
    try:
        assert run_job(str(job.pk), work) == "failed"
    finally:
        write_model_folder(model_root / "harbor")
    job.refresh_from_db()
    assert job.error_code == "MODEL_CHANGED"
    assert "register the new files" in job.error_message


def test_progress_of_a_lost_attempt_is_not_shown(job):
    lost = claim_job(job.pk, worker="first")
    let_lease_lapse(job)
    claim_job(job.pk, worker="second")
    report_progress(lost, stage="extracting", progress_done=5, progress_total=10)
    assert not keep_steps(lost, [step_of(lost)])
    job.refresh_from_db()
    assert (job.stage, job.progress_total, job.steps.count()) == ("", 0, 0)
