"""The page of a job: what it waits for, what became of it, and where to go from there."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from registry.models import Job
from registry.services.job_requests import request_extraction, request_validation
from registry.services.jobs import claim_job, confirm_cancel, fail_job, release_job, report_progress, request_cancel
from registry.services.results import FailedSearch, complete_validation, fail_search
from registry.templatetags.console import took
from steernode.records.evidence import read_evidence
from steernode.records.sweep import read_sweep
from tests.support import story


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


def test_a_failed_search_shows_everything_that_it_measured(page_of, as_person, ada, running_job):
    sweep = story.make_failed_sweep()
    assert fail_search(running_job, FailedSearch("NO_CELL_PASSES", "none of 6 cells passes", read_sweep(sweep), story.make_png()))
    page = page_of(running_job)
    assert "Only perplexity_ratio stops layer 2 at α 0.5: 1.082 against at most 1.07; α 0.44 would do: search it." in page
    # Each gate with its verdict in every cell, the curve with the nearest dose, and what was said.
    assert page.count("Behaviour pass") == page.count("Perplexity ratio fail: 1.082") == len(story.ALPHAS) - 1
    assert "nearest α = 0.5" in page
    for words in ("13.8 %", "4.05 to 4.41", "Layers 1 and 2 cannot be told apart", "scores 4.47", "of 12 select pairs"):
        assert words.lower() in page.lower()
    assert "test split, 95 % interval" not in page
    assert "I am sorry about the double charge" in page
    address = reverse("console:job-heatmap", args=[running_job.pk])
    assert f'src="{address}"' in page
    assert as_person(ada).get(address).content == story.make_png()


def fail(job, **changes):
    sweep = story.make_failed_sweep() | changes
    fail_search(job, FailedSearch("NO_CELL_PASSES", "none of 6 cells passes", read_sweep(sweep), story.make_png()))


def test_what_came_nearest_is_marked_and_not_praised_and_each_gate_counts_what_it_stops(page_of, running_job):
    fail(running_job)
    page = page_of(running_job)
    assert page.count('class="sh-nearest"') == 1
    assert 'class="sh-chosen"' not in page
    flat = " ".join(page.split())
    assert '<td>Perplexity ratio</td><td>ratio of at most 1.07</td><td title="1.082">1.082</td><td>6</td>' in flat
    assert "No cell of 6 passes every gate." in page


def test_the_next_step_after_a_failed_search_is_from_what_it_measured(page_of, running_job):
    would_do = {"layer": 2, "alpha": "0.44"}
    final = [cell | {"items": {"behaviour": 5, "facts": 23}} for cell in story.make_failed_sweep()["cells"]]
    unsure = story.make_failed_sweep()["instructions"] | {"difference": story.make_estimate("0.33", "-0.003", "0.75")}
    nearest = story.make_failed_sweep()["nearest"] | {"would_do": would_do}
    fail(running_job, cells=final, instructions=unsure, nearest=nearest)
    page = page_of(running_job)
    for words in (
        "What to do next",
        "Behaviour was judged on 5 tickets of the select split",
        "not shown to make the model reply differently",
        "Ask again with α 0.44 in the grid and layer 2 among the layers",
        "on 5 items of behaviour, 23 items of facts",
        "a difference of 0.33",
    ):
        assert words in page


def test_a_failed_search_that_no_dose_mends_says_so(page_of, running_job):
    windows = [{"metric": "behaviour", "kind": "min_difference_low", "threshold": "0", "never": True}]
    fail(running_job, nearest=story.make_failed_sweep()["nearest"] | {"windows": windows, "would_do": None})
    page = page_of(running_job)
    assert "No α of this layer meets the gate on behaviour, so another grid is no help" in page
    assert "not shown to make the model reply differently" not in page


def test_a_failed_search_whose_document_is_lost_says_so(page_of, running_job, settings, tmp_path):
    fail_search(running_job, FailedSearch("NO_CELL_PASSES", "none", read_sweep(story.make_failed_sweep()), story.make_png()))
    settings.STEERHUB_BLOB_URL = f"file://{tmp_path}/elsewhere"
    assert "BLOB_MISSING" in page_of(running_job)


def test_the_job_of_a_failed_validation_shows_its_evidence(page_of, ada, vector, suites):
    job = request_validation(vector=vector, suites=suites, actor=ada)
    document = story.make_evidence(vector)
    failing = {"metric": "facts", "kind": "min", "threshold": "0.99", "value": "0.975", "verdict": "fail"}
    document |= {"gates": [*document["gates"], failing], "verdict": "fail"}
    complete_validation(claim_job(job.pk, worker="w"), read_evidence(document))
    page = page_of(job)
    for words in ("Dose and response", "Numbers of the test split", "at least 0.99", "0.975", "I am sorry about the double charge"):
        assert words in page
    # What blocks stands first, and what to do about it below.
    gates = page.split("<h2>Gates</h2>")[1].split("</section>")[0]
    assert gates.index("at least 0.99") < gates.index(">pass<")
    assert "It does what it must not: facts. A smaller α does less of it" in gates
    assert "What failed is never waived." in gates
    assert "behaviour 1" in page.split("Looks at test items of this axis")[1][:200]


def test_evidence_that_cannot_be_concluded_on_says_what_would_decide_it(page_of, vector, evaluate):
    page = page_of(evaluate(vector, undecidable=["slope"]).job)
    assert "Nothing failed, and nothing can be concluded on slope of the contrast margin" in page
    assert "What failed is never waived." not in page


def test_evidence_that_passes_asks_for_nothing_next(page_of, evaluation):
    assert "What to do next" not in page_of(evaluation.job)


def test_the_page_of_a_vector_leads_to_all_that_its_newest_look_found(as_person, ada, vector, evaluate):
    failed = evaluate(vector, passed=False)
    page = as_person(ada).get(reverse("console:vector", args=[vector.pk])).text
    assert f'href="{reverse("console:job", args=[failed.job_id])}">Its gates, numbers and replies' in page
