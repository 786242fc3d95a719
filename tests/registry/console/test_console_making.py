"""What authors make: data sets, extractions, validations, drafts; and how they watch it."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone

from registry.models import ContrastSet, EvalSuite, Job, JobState, Profile, ProfileRevision
from registry.services.jobs import claim_job, confirm_cancel, fail_job, report_progress, request_cancel
from registry.services.results import ExtractionResult, complete_extraction
from registry.templatetags.console import notices
from steernode.records.sweep import read_sweep
from tests.support.files import make_suite, pairs_file, rubric_file, vector_file
from tests.support.working import PICTURE


def suite_fields(suites) -> dict:
    return {suite.kind: suite.pk for suite in suites}


def test_an_extraction_is_started_and_its_page_opens(as_person, ada, base_model, contrast_set, suites):
    data = {"vector": "empathy", "base_model": base_model.pk, "contrast_set": contrast_set.pk, "layers": "1, 2", "alphas": "0, 0.5"}
    page = as_person(ada).post(reverse("console:start-extraction"), {**data, **suite_fields(suites)}, follow=True)
    job = Job.objects.get()
    assert page.redirect_chain[0][0] == reverse("console:job", args=[job.pk])
    assert (job.recipe["layers"], job.recipe["alphas"]) == ([1, 2], ["0", "0.5"])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"layers": "99"}, "LAYER_RANGE"),
        ({"layers": "two"}, "LAYER_RANGE"),
        ({"alphas": "0.5, 1"}, "ALPHA_GRID"),
        ({"alphas": "0, x"}, "ALPHA_FORMAT"),
    ],
)
def test_a_refused_recipe_comes_back_as_it_was_typed(as_person, ada, base_model, contrast_set, suites, changes, code):
    data = {"vector": "keep-me", "base_model": base_model.pk, "contrast_set": contrast_set.pk, "layers": "all", "alphas": ""}
    page = as_person(ada).post(reverse("console:start-extraction"), {**data, **suite_fields(suites), **changes})
    assert code in page.text
    assert 'value="keep-me"' in page.text
    assert not Job.objects.exists()


def test_a_recipe_that_failed_comes_back_with_the_failure_and_a_switch(as_person, ada, running_job, suites):
    fail_job(running_job, code="NO_CELL_PASSES", message="none of 14 cells passes every gate")
    data = {"vector": running_job.recipe["vector"], "base_model": running_job.base_model_id, "contrast_set": running_job.contrast_set_id}
    data |= {"layers": "candidates", "alphas": running_job.recipe["alphas"], "replies": "greedy", **suite_fields(suites)}
    page = as_person(ada).post(reverse("console:start-extraction"), data).text
    assert "NO_CELL_PASSES" in page
    assert 'name="again"' in page
    as_person(ada).post(reverse("console:start-extraction"), {**data, "again": "on"})
    assert Job.objects.filter(state="queued").count() == 1


def test_progress_is_a_small_document_for_the_page_to_ask_for(as_person, iris, running_job):
    report_progress(running_job, stage="sweeping", progress_done=3, progress_total=9, note="layer 2")
    answer = as_person(iris).get(reverse("console:job-progress", args=[running_job.pk]))
    expected = {"state": "running", "stage": "sweeping", "done": 3, "total": 9, "note": "layer 2", "attempt": 1, "finished": False}
    assert answer.json() == {**expected, "left": "no estimate yet", "speed": "", "notices": notices(running_job)}
    page = as_person(iris).get(reverse("console:job", args=[running_job.pk])).text
    assert f'data-progress-url="{reverse("console:job-progress", args=[running_job.pk])}"' in page
    assert "registry/progress.js" in page


def test_a_job_shows_where_its_model_is_and_what_it_takes(as_person, iris, running_job):
    where = reverse("console:job", args=[running_job.pk])
    assert "Memory" not in as_person(iris).get(where).text
    report_progress(running_job, stage="sweeping", device="cuda:0 (NVIDIA H200), bfloat16", peak_memory_bytes=15 * 1024**3)
    page = as_person(iris).get(where).text
    for words in ("cuda:0 (NVIDIA H200), bfloat16", "15.0\xa0GB"):
        assert words in page


def test_the_time_left_and_the_speed_stand_on_the_page_its_updates_and_the_list(as_person, iris, running_job):
    measured = {"expected_at": timezone.now() + timedelta(minutes=5, seconds=20), "tokens_per_second": 41.26}
    report_progress(running_job, stage="answering", progress_done=3, progress_total=9, **measured)
    answer = as_person(iris).get(reverse("console:job-progress", args=[running_job.pk])).json()
    assert (answer["left"], answer["speed"]) == ("about 5 min left", "41.26 tokens/s")
    page = as_person(iris).get(reverse("console:job", args=[running_job.pk])).text
    assert "about 5 min left" in page
    assert "41.26 tokens/s" in page
    assert "about 5 min left" in as_person(iris).get(reverse("admin:registry_job_changelist")).text


def test_nobody_estimates_for_a_worker_that_is_gone_or_after_the_expected_end(running_job):
    now = timezone.now()
    report_progress(running_job, stage="answering", progress_done=3, progress_total=9, expected_at=now + timedelta(minutes=5))
    running_job.refresh_from_db()
    assert running_job.seconds_left in range(290, 301)
    Job.objects.filter(pk=running_job.pk).update(lease_expires_at=now - timedelta(seconds=1))
    running_job.refresh_from_db()
    assert running_job.seconds_left is None
    again = claim_job(running_job.pk, worker="next")
    assert (again.expected_at, again.seconds_left) == (None, None)
    report_progress(again, stage="answering", expected_at=now - timedelta(seconds=1))
    again.refresh_from_db()
    assert again.seconds_left is None


def test_a_failed_job_says_why_and_is_polled_no_more(as_person, ada, running_job):
    fail_job(running_job, code="NO_CELL_PASSES", message="none of 14 cells passes every gate")
    page = as_person(ada).get(reverse("console:job", args=[running_job.pk])).text
    assert "NO_CELL_PASSES" in page
    assert "data-progress-url" not in page


@pytest.mark.parametrize("is_called_off", [False, True])
def test_a_job_that_ended_shows_where_and_nothing_of_what_was_left(as_person, api, ada, running_job, is_called_off):
    measured = {"expected_at": timezone.now() + timedelta(minutes=3), "tokens_per_second": 41.26, "note": "12 of 24 replies"}
    report_progress(running_job, stage="searching", progress_done=30, progress_total=100, **measured)
    if is_called_off:
        request_cancel(running_job.pk, actor=ada)
        confirm_cancel(running_job)
    else:
        fail_job(running_job, code="NO_CELL_PASSES", message="none of 14 cells passes every gate")
    job = api(ada).get(f"/api/v1/jobs/{running_job.pk}").json()
    assert (job["stage"], job["progress_done"], job["progress_total"]) == ("searching", 30, 100)
    assert (job["seconds_left"], job["tokens_per_second"], job["note"]) == (None, None, "ended with 30 of 100 done")
    for where in (reverse("console:job", args=[running_job.pk]), reverse("admin:registry_job_changelist")):
        page = as_person(ada).get(where).text
        assert "ended with 30 of 100 done" in page
        assert not any(words in page for words in ("min left", "no estimate", "tokens/s", "12 of 24"))


def test_a_job_that_succeeded_says_nothing_of_its_last_step(running_job):
    report_progress(running_job, stage="sealing", progress_done=3, progress_total=4, note="writing", tokens_per_second=41.26)
    file = vector_file(running_job.base_model.fingerprint, running_job.contrast_set.digest)
    result = ExtractionResult(file, read_sweep({"schema": "steerhub.sweep/1", "cells": []}), PICTURE, Decimal("0.5"), "mean_difference")
    complete_extraction(running_job, result)
    running_job.refresh_from_db()
    assert (running_job.note, running_job.tokens_per_second, running_job.progress_done) == ("", None, 4)


def test_an_author_cancels_a_job_and_an_auditor_does_not(as_person, ada, iris, running_job):
    where = reverse("console:cancel-job", args=[running_job.pk])
    assert as_person(iris).post(where).status_code == 403
    as_person(ada).post(where)
    assert Job.objects.get(pk=running_job.pk).cancel_requested_at is not None


def test_cancelling_what_is_finished_is_told(as_person, ada, vector):
    page = as_person(ada).post(reverse("console:cancel-job", args=[vector.job_id]), follow=True)
    assert "JOB_FINISHED" in page.text


def test_a_vector_page_shows_lineage_sweep_and_heat_map(as_person, grace, vector, contrast_set):
    page = as_person(grace).get(reverse("console:vector", args=[vector.pk])).text
    assert contrast_set.digest in page
    assert "sh-chosen" in page
    picture = as_person(grace).get(reverse("console:heatmap", args=[vector.pk]))
    assert picture.headers["Content-Type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")


def test_a_vector_page_opens_without_its_blobs(as_person, grace, vector, settings, tmp_path):
    settings.STEERHUB_BLOB_URL = (tmp_path / "elsewhere").as_uri()
    page = as_person(grace).get(reverse("console:vector", args=[vector.pk]))
    assert page.status_code == 200
    assert "BLOB_MISSING" in page.text
    assert as_person(grace).get(reverse("console:heatmap", args=[vector.pk])).status_code == 404


def test_an_author_validates_a_vector_once(as_person, ada, vector, suites):
    where = reverse("console:validate-vector", args=[vector.pk])
    page = as_person(ada).post(where, suite_fields(suites), follow=True)
    job = Job.objects.get(vector=vector)
    assert page.redirect_chain[0][0] == reverse("console:job", args=[job.pk])
    assert (job.state, job.recipe["alpha"]) == (JobState.QUEUED, "0.5")
    assert "VALIDATION_RUNNING" in as_person(ada).post(where, suite_fields(suites), follow=True).text


def test_an_author_drafts_a_revision_into_a_profile(as_person, ada, vector, evaluation, profile):
    data = {
        "profile": profile.pk,
        "alpha": "0.5",
        "alpha_min": "0",
        "alpha_max": "0.5",
        "stale_policy": "keep",
        "max_staleness_seconds": "60",
    }
    as_person(ada).post(reverse("console:draft-revision", args=[vector.pk]), data)
    revision = ProfileRevision.objects.get()
    assert (revision.author, revision.stale_policy, revision.max_staleness_seconds) == (ada, "keep", 60)
    refused = as_person(ada).post(reverse("console:draft-revision", args=[vector.pk]), {**data, "alpha": "0.7"}, follow=True)
    assert "ALPHA_RANGE" in refused.text
    assert ProfileRevision.objects.count() == 1


def test_an_author_makes_a_profile(as_person, ada):
    data = {"name": "harbor-empathy", "intent": "Warm.", "purpose": "tone", "axis": "empathy", "risk_class": "low"}
    page = as_person(ada).post(reverse("console:create-profile"), data, follow=True)
    assert Profile.objects.get().owner == ada
    assert "Draft one from the page of a vector." in page.text
    assert "PROFILE_EXISTS" in as_person(ada).post(reverse("console:create-profile"), {**data, "intent": "Cold."}).text


def test_data_sets_are_sealed_or_refused_with_the_line(as_person, ada):
    client = as_person(ada)
    good = {"name": "empathy", "axis": "empathy", "file": SimpleUploadedFile("pairs.jsonl", pairs_file())}
    assert client.post(reverse("console:upload-contrast-set"), good).status_code == 302
    assert ContrastSet.objects.get().pair_count == 8
    bad = {"name": "other", "axis": "empathy", "file": SimpleUploadedFile("pairs.jsonl", b"not json\n")}
    assert "CONTRAST_NOT_JSONL" in client.post(reverse("console:upload-contrast-set"), bad).text
    suite = {
        "name": "tickets",
        "kind": "behaviour",
        "file": SimpleUploadedFile("tickets.jsonl", make_suite("behaviour")),
        "rubric": SimpleUploadedFile("rubric.jsonl", rubric_file()),
    }
    assert client.post(reverse("console:upload-eval-suite"), suite).status_code == 302
    assert EvalSuite.objects.get().axis == "empathy"
    shown = client.get(reverse("admin:registry_contrastset_change", args=[ContrastSet.objects.get().pk])).text
    assert "Where is refund 0?" in shown
