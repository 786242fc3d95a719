"""Every job goes on where its last attempt stopped, and leaves what it would have left in one go."""

import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
import torch
from django.db import OperationalError
from django.utils import timezone

from registry.models import Evaluation, Job, JobState, JobStep, SteeringVector
from registry.services.compositions import request_composition
from registry.services.job_requests import request_validation
from registry.services.jobs import claim_job, request_cancel, resend_lost_jobs
from registry.services.steps import keep_steps
from steernode.engine.applying import generate as generating
from tests.support.celery_workers import celery_over_files, start_worker, wait_for
from tests.support.demo_data import ROOT, take
from tests.support.drafts import draft_of_two, make_suites, read_vector_of
from tests.support.evidence import read_measured
from tests.support.world import unguarded
from workers import conditions, working
from workers.composition import compose
from workers.extraction import extract
from workers.running import run_job
from workers.validation import validate

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """Here and in the worker processes, so that an attempt that is killed has nothing under way but the step it is killed after."""
    threads = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Killed(BaseException):
    """Ends an attempt as a signal does: nothing is caught, nothing is given back."""


@pytest.fixture
def validation(small_job, suites, ada) -> Job:
    vector = read_vector_of(small_job(pairs=take("empathy.pairs.jsonl", 32)), ada)
    return request_validation(vector=vector, suites=suites, alpha=Decimal("0.5"), unit="mean_difference", actor=ada)


@pytest.fixture
def suites(small_job, ada) -> list:
    return make_suites(small_job().suites, ada)


@pytest.fixture
def composition(small_job, suites, evaluate, ada) -> Job:
    return request_composition(revision=draft_of_two(small_job, evaluate, ada), suites=suites, actor=ada)


def run(job: Job, work: Callable) -> str:
    """An attempt, after the last one's lease."""
    Job.objects.filter(pk=job.pk, lease_expires_at__isnull=False).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    said = run_job(str(job.pk), work)
    job.refresh_from_db()
    return said


def run_until_killed(job: Job, work: Callable, monkeypatch, *, after: int) -> None:
    """An attempt that is killed once it has kept so many steps."""
    kept = []

    def keep(job: Job, steps: list[JobStep]) -> bool:
        is_ours = keep_steps(job, steps)
        kept.extend(steps)
        if len(kept) >= after:
            raise Killed
        return is_ours

    with monkeypatch.context() as patch:
        patch.setattr(working, "keep_steps", keep)
        with pytest.raises(Killed):
            run(job, work)
    job.refresh_from_db()


def run_whole(job: Job, work: Callable) -> dict:
    """What the job leaves in one go, and the job as it was before."""
    assert run(job, work) == "succeeded"
    document = read_measured(job)
    with unguarded("registry_evaluation"):
        Evaluation.objects.filter(job=job).delete()
    Job.objects.filter(pk=job.pk).update(
        state=JobState.QUEUED, attempt=0, result_digest="", finished_at=None, progress_done=0, progress_total=0
    )
    job.refresh_from_db()
    return document


@pytest.mark.parametrize(("kind", "work"), [("validation", validate), ("composition", compose)])
def test_an_attempt_killed_after_any_step_leaves_the_evidence_of_one_go(kind, work, request, monkeypatch):
    job = request.getfixturevalue(kind)
    measured = count_generated(monkeypatch)
    whole, in_one_go = run_whole(job, work), len(measured)
    Job.objects.filter(pk=job.pk).update(max_attempts=100)
    measured.clear()
    shown, steps = [], 0
    for _ in range(100):
        try:
            run_until_killed(job, work, monkeypatch, after=1)
        except pytest.fail.Exception:
            break
        steps += 1
        assert job.steps.count() == steps
        shown.append((job.progress_done, job.progress_total))
    assert (job.state, job.error_message) == (JobState.SUCCEEDED, "")
    assert read_measured(job) == whole
    assert steps > 5
    # Each batch was measured once, but for the replies that are timed.
    assert len(measured) == in_one_go
    assert shown == sorted(shown)
    assert len({total for _, total in shown}) == 1
    assert (job.steps.count(), Evaluation.objects.filter(job=job).count()) == (0, 1)
    assert (job.progress_done, job.expected_at) == (job.progress_total, None)


def count_generated(monkeypatch) -> list[int]:
    """The rows of every batch of replies that is written from now on."""
    batches, write = [], generating._generate_batch

    def counted(loaded, prompts, *rest):
        batches.append(len(prompts))
        return write(loaded, prompts, *rest)

    monkeypatch.setattr(generating, "_generate_batch", counted)
    return batches


def test_an_extraction_killed_at_several_steps_makes_the_vector_and_the_search_of_one_go(small_job, monkeypatch):
    job = small_job(pairs=take("empathy.pairs.jsonl", 60))
    Job.objects.filter(pk=job.pk).update(max_attempts=100)
    for after in (1, 1, 1, 2):
        run_until_killed(job, extract, monkeypatch, after=after)
    assert run(job, extract) == "succeeded"
    left = {name: getattr(job.extracted_vector, name) for name in ("digest", "sweep_digest", "trace_map_digest", "proposed_alpha")}
    assert not JobStep.objects.exists()
    SteeringVector.objects.all().delete()
    again = small_job(pairs=take("empathy.pairs.jsonl", 60))
    assert run(again, extract) == "succeeded"
    assert {name: getattr(again.extracted_vector, name) for name in left} == left


def test_a_step_that_was_changed_is_measured_again(validation, monkeypatch):
    whole = run_whole(validation, validate)
    run_until_killed(validation, validate, monkeypatch, after=4)
    damaged, forged, moved, _ = validation.steps.order_by("pk")
    JobStep.objects.filter(pk=damaged.pk).update(data=bytes(damaged.data)[:-1])
    JobStep.objects.filter(pk=forged.pk).update(data=bytes(forged.data).replace(b"0", b"1"), seal="0" * 64)
    # Bytes of another step of the same job, with the seal that they had there.
    JobStep.objects.filter(pk=moved.pk).update(data=forged.data, seal=forged.seal)
    assert run(validation, validate) == "succeeded"
    assert read_measured(validation) == whole


def test_a_step_kept_under_other_conditions_is_not_used(validation, monkeypatch):
    Job.objects.filter(pk=validation.pk).update(max_attempts=100)
    run_until_killed(validation, validate, monkeypatch, after=2)
    assert validation.progress_done > 0
    describe = conditions.describe_conditions
    for begun, changed in enumerate(["code", "libraries", "ran_on", "architecture", "recipe", "base_model_fingerprint"], start=1):
        monkeypatch.setattr(conditions, "describe_conditions", lambda *about, changed=changed: {**describe(*about), changed: "another"})
        run_until_killed(validation, validate, monkeypatch, after=1)
        # What was begun is begun again, and the first attempt's steps wait for whoever can use them.
        assert validation.steps.count() == 2 + begun
        assert len(set(validation.steps.values_list("conditions", flat=True))) == 1 + begun
        assert validation.progress_done == 0


def test_steps_are_gone_when_the_job_is_cancelled(validation, monkeypatch, ada):
    run_until_killed(validation, validate, monkeypatch, after=2)
    request_cancel(validation.pk, actor=ada)
    assert run(validation, validate) == "cancelled"
    assert (validation.state, JobStep.objects.count()) == (JobState.CANCELLED, 0)


@pytest.mark.parametrize("when", ["during", "between"])
def test_a_model_folder_that_changes_fails_the_job_and_leaves_nothing(validation, small_job, settings, tmp_path, monkeypatch, when):
    shutil.copytree(ROOT / "demo/model", tmp_path / "demo/model")
    settings.STEERHUB_MODEL_ROOT = tmp_path
    run_until_killed(validation, validate, monkeypatch, after=2)
    template = tmp_path / "demo/model/chat_template.jinja"

    def change() -> None:
        template.write_text(template.read_text() + "{# other #}")

    if when == "between":
        change()
    else:
        keep = working.keep_steps
        monkeypatch.setattr(working, "keep_steps", lambda *about: change() or keep(*about))
    assert run(validation, validate) == "failed"
    assert (validation.state, validation.error_code) == (JobState.FAILED, "MODEL_CHANGED")
    assert (Evaluation.objects.count(), JobStep.objects.count()) == (0, 0)


def test_a_database_that_is_away_for_a_while_costs_no_attempt_and_no_step(validation, monkeypatch):
    whole = run_whole(validation, validate)
    asked = []

    def keep(job: Job, steps: list[JobStep]) -> bool:
        asked.append(len(steps))
        if 2 <= len(asked) <= 4:
            raise OperationalError("the server closed the connection unexpectedly")
        return keep_steps(job, steps)

    monkeypatch.setattr(working, "keep_steps", keep)
    assert run(validation, validate) == "succeeded"
    assert (validation.attempt, asked[:6]) == (1, [1, 1, 2, 3, 4, 1])
    assert read_measured(validation) == whole


def test_an_attempt_that_lost_its_job_keeps_nothing(validation, monkeypatch):
    first = claim_job(validation.pk, worker="first")
    Job.objects.filter(pk=validation.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    run_until_killed(validation, validate, monkeypatch, after=2)
    steps = list(validation.steps.all())
    for step in steps:
        step.pk = None
    assert not keep_steps(first, steps)
    assert validation.steps.count() == 2


@pytest.mark.e2e
@pytest.mark.parametrize(("kind", "work"), [("validation", validate), ("composition", compose)])
def test_a_worker_killed_twice_hands_the_job_to_workers_that_leave_the_same_evidence(kind, work, request, settings, tmp_path):
    job = request.getfixturevalue(kind)
    whole = run_whole(job, work)
    # Whoever made the inputs asked for other jobs, which nobody is to run here.
    Job.objects.exclude(pk=job.pk).update(dispatched_at=timezone.now() + timedelta(days=1))
    Job.objects.filter(pk=job.pk).update(dispatched_at=timezone.now() - timedelta(minutes=1))
    seen = []
    with celery_over_files(tmp_path):
        for enough in (1, 4, None):
            # What the sweeper does: nothing else sends the job of a worker that is gone.
            assert resend_lost_jobs() == 1
            worker = start_worker("filesystem://", settings, tmp_path)
            try:
                wait_for(lambda enough=enough: is_far(job, enough), worker, tmp_path, seconds=240)
            finally:
                worker.kill()
                worker.wait(30)
            seen.append(job.steps.count())
            Job.objects.filter(pk=job.pk, state=JobState.RUNNING).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    job.refresh_from_db()
    assert (job.state, job.error_message, job.attempt) == (JobState.SUCCEEDED, "", 3)
    assert 1 <= seen[0] < seen[1]
    assert seen[2] == 0
    assert read_measured(job) == whole
    assert Evaluation.objects.filter(job=job).count() == 1


def is_far(job: Job, enough: int | None) -> bool:
    """Whether the job has kept so many steps, or has ended."""
    job.refresh_from_db()
    return job.is_finished if enough is None else job.steps.count() >= enough


def test_a_job_that_is_called_off_stops_within_a_batch(validation, ada, monkeypatch, settings):
    settings.STEERHUB_LEASE_SECONDS = 1
    steps = []

    def write_on(_decoding, tokens) -> list[int]:
        if not steps:
            request_cancel(validation.pk, actor=ada)
        steps.append(len(tokens))
        time.sleep(0.1)
        return list(range(len(tokens)))

    monkeypatch.setattr(generating._Decoding, "_note", write_on)
    assert run(validation, validate) == "cancelled"
    assert (validation.state, validation.steps.count()) == (JobState.CANCELLED, 0)
    assert len(steps) < validation.recipe["max_new_tokens"] / 2
