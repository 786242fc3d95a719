"""Jobs and what they leave: the author's daily road."""

from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from registry.models import Job
from registry.services.job_requests import request_extraction
from registry.services.jobs import claim_job
from registry.services.results import ExtractionResult, FailedSearch, complete_composition, complete_extraction, fail_search
from steernode.canonical import canonical_json
from steernode.records.sweep import read_sweep
from tests.support import story
from tests.support.api import code_of
from tests.support.files import composition_evidence, vector_file

SWEEP = {"schema": "steerhub.sweep/1", "cells": [{"layer": 2, "alpha": "0.5", "behaviour": "4.2"}]}
PICTURE = b"\x89PNG\r\n\x1a\n"
TRACE = PICTURE + b"trace"


@pytest.fixture
def extracted(base_model, contrast_set, suites, ada):
    """A vector left by a finished extraction, which proposes α = 0.5."""
    job = request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe={"vector": "empathy"}, actor=ada)
    data = vector_file(base_model.fingerprint, contrast_set.digest)
    result = ExtractionResult(
        vector=data, sweep=read_sweep(SWEEP), heatmap=PICTURE, alpha=Decimal("0.5"), unit="mean_difference", trace_map=TRACE
    )
    return complete_extraction(claim_job(job.pk, worker="worker-1"), result)


@pytest.fixture
def running_job(ada, base_model, contrast_set, suites):
    return story.start_job(base_model=base_model, contrast_set=contrast_set, suites=suites, author=ada)


def test_an_extraction_shows_what_it_left(api, ada, extracted):
    author = api(ada)
    (job,) = author.get("/api/v1/jobs?kind=extraction").json()["results"]
    assert (job["state"], job["attempt"], job["contrast_set"]) == ("succeeded", 1, "empathy@1")
    assert job["extracted_vector"] == {"id": str(extracted.pk), "name": "empathy", "version": 1}
    assert job["result_digest"] == extracted.digest
    vector = author.get("/api/v1/vectors/empathy/1").json()
    assert (vector["proposed_alpha"], vector["proposed_unit"], vector["job"]) == ("0.5", "mean_difference", job["id"])


def test_the_search_and_its_pictures_are_served_as_stored(api, grace, extracted):
    reader = api(grace)
    sweep = reader.get("/api/v1/vectors/empathy/1/sweep")
    assert (sweep["Content-Type"], sweep.content) == ("application/json", canonical_json(SWEEP))
    for name, picture in (("heatmap.png", PICTURE), ("trace.png", TRACE)):
        answer = reader.get(f"/api/v1/vectors/empathy/1/{name}")
        assert (answer["Content-Type"], answer.content) == ("image/png", picture)


def test_an_imported_vector_has_no_search(api, grace, vector):
    for path in ("sweep", "heatmap.png", "trace.png"):
        assert code_of(api(grace).get(f"/api/v1/vectors/empathy/1/{path}")) == (404, "NO_SWEEP")


def test_a_failed_search_shows_what_it_measured_and_serves_it_as_stored(api, ada, grace, running_job):
    sweep = story.make_failed_sweep()
    assert fail_search(running_job, FailedSearch("NO_CELL_PASSES", "none of 6 cells passes every gate", read_sweep(sweep), PICTURE))
    here = f"/api/v1/jobs/{running_job.pk}"
    job = api(ada).get(here).json()
    assert (job["state"], job["error_code"]) == ("failed", "NO_CELL_PASSES")
    search = job["search"]
    assert search["nearest"] == sweep["nearest"]
    assert [cell["alpha"] for cell in search["cells"]] == list(story.ALPHAS)
    assert search["cells"][1]["gates"][1]["verdict"] == "fail"
    assert len(search["replies"]) == len(story.REPLIES)
    assert api(grace).get(f"{here}/sweep").content == canonical_json(sweep)
    assert api(grace).get(f"{here}/heatmap.png").content == PICTURE


def test_a_job_that_keeps_no_search_says_so(api, grace, extracted):
    here = f"/api/v1/jobs/{extracted.job_id}"
    assert api(grace).get(here).json()["search"] is None
    for path in ("sweep", "heatmap.png"):
        assert code_of(api(grace).get(f"{here}/{path}")) == (404, "NO_SWEEP")


def test_the_database_keeps_a_search_of_nothing_but_a_failed_extraction(running_job):
    with pytest.raises(IntegrityError, match="job_keeps_its_search_only_when_it_failed"), transaction.atomic():
        Job.objects.filter(pk=running_job.pk).update(sweep_digest="0" * 64)


def test_a_validation_runs_at_the_proposed_coefficient_and_once(api, ada, extracted):
    author = api(ada)
    body = {"kind": "validation", "vector": "empathy@1", "suites": ["tickets", "facts", "refusals"]}
    job = author.post("/api/v1/jobs", body).json()
    assert (job["kind"], job["vector"]["name"], job["recipe"]["alpha"], job["evaluation"]) == ("validation", "empathy", "0.5", None)
    assert code_of(author.post("/api/v1/jobs", body)) == (409, "VALIDATION_RUNNING")


def test_an_evaluation_shows_its_evidence_byte_for_byte(api, ada, evaluation):
    author = api(ada)
    (job,) = author.get("/api/v1/jobs?kind=validation").json()["results"]
    said = {"digest": evaluation.digest, "verdict": "pass", "passed": True, "condition": None, "system_message": ""}
    assert job["evaluation"] == {"id": str(evaluation.pk), **said}
    assert author.get(f"/api/v1/evaluations/{evaluation.pk}").json()["gates"][0]["verdict"] == "pass"
    evidence = author.get(f"/api/v1/evaluations/{evaluation.pk}/evidence")
    from steernode.canonical import sha256_hex

    assert sha256_hex(evidence.content) == evaluation.digest


def test_a_draft_of_two_components_is_judged_as_a_whole_and_submitted(api, ada, combined):
    author, here = api(ada), f"/api/v1/profiles/{combined.profile.name}/revisions/{combined.number}"
    assert code_of(author.post(f"{here}/submit", {})) == (409, "EVIDENCE_MISSING")
    body = {
        "kind": "composition",
        "profile": combined.profile.name,
        "revision": combined.number,
        "suites": ["tickets", "facts", "refusals"],
    }
    answer = author.post("/api/v1/jobs", body)
    assert answer.status_code == 201, answer.content
    job = answer.json()
    assert (job["kind"], job["revision"]) == ("composition", {"profile": combined.profile.name, "number": combined.number})
    assert code_of(author.post("/api/v1/jobs", body)) == (409, "COMPOSITION_RUNNING")
    claimed = claim_job(job["id"], worker="worker-1")
    evaluation = complete_composition(claimed, composition_evidence(claimed))
    shown = author.get(f"/api/v1/evaluations/{evaluation.pk}").json()
    assert (shown["vector"], shown["alpha"], shown["unit"], shown["revision"]) == (None, None, "", job["revision"])
    assert shown["components_digest"] == evaluation.components_digest
    assert code_of(author.post("/api/v1/jobs", body)) == (409, "TEST_SPLIT_OPENED")
    submitted = author.post(f"{here}/submit", {}).json()
    assert (submitted["state"], submitted["evidence_digest"]) == ("submitted", evaluation.digest)


def test_what_is_no_composition_is_refused_by_name(api, ada, oscar, draft, evaluation):
    good = {"kind": "composition", "profile": draft.profile.name, "revision": draft.number, "suites": ["tickets", "facts", "refusals"]}
    rows = [
        ({}, (422, "COMPOSITION_SIZE")),
        ({"profile": "nobody"}, (404, "REVISION_NOT_FOUND")),
        ({"revision": 9}, (404, "REVISION_NOT_FOUND")),
        ({"revision": "1"}, (400, "VALIDATION")),
        ({"revision": 2**40}, (400, "VALIDATION")),
        ({"suites": ["tickets", "nothing", "refusals"]}, (404, "SUITE_NOT_FOUND")),
        ({"alpha": "0.5"}, (400, "UNKNOWN_FIELD")),
        ({"gates": []}, (400, "UNKNOWN_FIELD")),
    ]
    for change, expected in rows:
        assert code_of(api(ada).post("/api/v1/jobs", good | change)) == expected
    assert code_of(api(oscar).post("/api/v1/jobs", good)) == (403, "PERMISSION_DENIED")
    assert not Job.objects.filter(kind="composition").exists()


def test_a_finished_job_is_not_called_off(api, oscar, extracted):
    job = Job.objects.get()
    assert code_of(api(oscar).post(f"/api/v1/jobs/{job.pk}/cancel")) == (409, "JOB_FINISHED")
