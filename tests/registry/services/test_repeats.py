"""What failed for a reason that another attempt would meet again is queued again only for somebody who knows that."""

import pytest

from registry.errors import TransitionRefused
from registry.models import Job
from registry.services.job_requests import request_extraction, request_validation
from registry.services.jobs import claim_job, fail_job, request_cancel
from tests.support.api import code_of

RECIPE = {"vector": "empathy"}
NO_CELL = ("NO_CELL_PASSES", "none of 14 cells passes every gate")


@pytest.fixture
def asked(ada, base_model, contrast_set, suites):
    return {"base_model": base_model, "contrast_set": contrast_set, "suites": suites, "recipe": RECIPE, "actor": ada}


def fail(job: Job, code: str, message: str = "no") -> Job:
    assert fail_job(claim_job(job.pk, worker="worker-1"), code=code, message=message)
    return job


@pytest.fixture
def failed(asked) -> Job:
    return fail(request_extraction(**asked), *NO_CELL)


def test_the_same_recipe_is_refused_by_the_earlier_job_and_its_error(asked, failed):
    with pytest.raises(TransitionRefused) as refusal:
        request_extraction(**asked)
    assert (refusal.value.code, refusal.value.item) == ("JOB_FAILED_BEFORE", str(failed.pk))
    for words in (str(failed), *NO_CELL):
        assert words in refusal.value.message
    assert Job.objects.count() == 1
    assert request_extraction(**asked, again=True).state == "queued"


@pytest.mark.parametrize("changes", [{"recipe": {"vector": "empathy", "alphas": ["0", "0.3"]}}, {"recipe": {"vector": "other"}}])
def test_another_recipe_is_another_job(asked, failed, changes):
    assert request_extraction(**{**asked, **changes}).state == "queued"


@pytest.mark.parametrize("code", ["ATTEMPTS_EXHAUSTED", "OUT_OF_MEMORY", "MODEL_TOO_LARGE", "DEVICE_TAKEN", "FOLDER_CHANGED", "MODEL_LOAD"])
def test_what_another_machine_need_not_meet_is_queued_without_fuss(asked, code):
    fail(request_extraction(**asked), code)
    assert request_extraction(**asked).state == "queued"


def test_what_was_called_off_is_no_failure(asked, ada):
    request_cancel(request_extraction(**asked).pk, actor=ada)
    assert request_extraction(**asked).state == "queued"


def test_a_validation_that_failed_is_said_too(ada, vector, suites):
    asked = {"vector": vector, "suites": suites, "alpha": "0.5", "actor": ada}
    fail(request_validation(**asked), "NON_FINITE")
    with pytest.raises(TransitionRefused, match="NON_FINITE"):
        request_validation(**asked)
    assert request_validation(**{**asked, "alpha": "0.4"}).recipe["alpha"] == "0.4"


def test_the_api_asks_for_again(api, ada, contrast_set, failed):
    body = {"kind": "extraction", "base_model": failed.base_model.name, "contrast_set": "empathy@1", "recipe": RECIPE}
    body["suites"] = ["tickets", "facts", "refusals"]
    answer = api(ada).post("/api/v1/jobs", body)
    assert code_of(answer) == (409, "JOB_FAILED_BEFORE")
    assert "NO_CELL_PASSES" in answer.json()["detail"]
    assert api(ada).post("/api/v1/jobs", {**body, "again": True}).status_code == 201
    assert api(ada).post("/api/v1/jobs", {**body, "again": "yes"}).status_code == 400
