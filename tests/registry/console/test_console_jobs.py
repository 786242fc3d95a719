"""The page of a job: what it waits for, what became of it, and where to go from there."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from registry.models import Job
from registry.services.jobs import confirm_cancel, fail_job, release_job, report_progress, request_cancel, request_extraction
from registry.templatetags.console import took


@pytest.fixture
def page_of(as_person, ada):
    return lambda job, person=ada: as_person(person).get(reverse("console:job", args=[job.pk])).text


def test_a_queued_job_says_that_it_waits_for_a_worker(page_of, as_person, ada, base_model, contrast_set, suites):
    job = request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe={"vector": "empathy"}, actor=ada)
    for page in (page_of(job), *(as_person(ada).get(reverse(name)).text for name in ("admin:index", "admin:registry_job_changelist"))):
        assert "waiting for a worker" in page


def test_a_job_that_was_given_up_does_not_look_like_one_that_has_just_begun(page_of, running_job):
    release_job(running_job, note="attempt 1 lost its GPU")
    page = page_of(running_job)
    assert "nobody works on it; another attempt follows" in page
    assert "attempt 1 lost its GPU" in page
    assert "no estimate yet" not in page
    Job.objects.filter(pk=running_job.pk).update(attempt=3)
    assert "its last attempt was lost" in page_of(running_job)


def test_an_expectation_that_did_not_come_true_is_not_an_estimate_to_come(page_of, running_job):
    report_progress(running_job, stage="answering", progress_done=3, progress_total=9, expected_at=timezone.now() - timedelta(seconds=1))
    page = page_of(running_job)
    assert "longer than expected" in page
    assert "33 % done" in page


def test_who_asked_a_job_to_stop_is_named_while_it_stops_and_afterwards(page_of, running_job, oscar):
    report_progress(running_job, stage="answering", progress_done=3, progress_total=9)
    request_cancel(running_job.pk, actor=oscar)
    stopping = page_of(running_job)
    assert "asked to stop" in stopping
    assert "oscar asked it to stop" in stopping
    confirm_cancel(running_job)
    cancelled = page_of(running_job)
    assert "oscar asked it to stop" in cancelled
    assert "It was 33 % done; nothing of it is kept." in cancelled


def test_an_author_of_a_job_that_came_to_nothing_is_shown_where_to_ask_again(page_of, running_job, iris):
    again = reverse("console:new-extraction")
    fail_job(running_job, code="NO_CELL_PASSES", message="none of 14 cells passes every gate")
    assert "Ask for another extraction" in page_of(running_job)
    assert f'class="sh-button" href="{again}"' not in page_of(running_job, iris)


def test_a_job_leads_to_everything_that_it_was_given(page_of, running_job, base_model, contrast_set, suites):
    page = page_of(running_job)
    for name, record in (
        ("console:base-model", base_model),
        ("admin:registry_contrastset_change", contrast_set),
        *(("admin:registry_evalsuite_change", suite) for suite in suites),
    ):
        assert f'href="{reverse(name, args=[record.pk])}"' in page


def test_what_a_recipe_calls_dtype_is_told_apart(page_of, running_job):
    page = page_of(running_job)
    assert "vector stored as" in page
    assert "model run in" in page


def test_a_job_of_seconds_did_not_take_0_minutes(running_job):
    assert took(running_job) == ""
    running_job.finished_at = running_job.started_at + timedelta(seconds=48)
    assert took(running_job) == "48 s"
    running_job.finished_at = running_job.started_at + timedelta(minutes=17, seconds=10)
    assert took(running_job) == "17 min"
