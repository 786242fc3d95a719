"""Where a vector acts and what it is served under, through the API: asked for with a recipe, and told of evidence."""

import pytest

from registry.models import Job
from registry.services.job_requests import request_validation
from tests.support.suites import seal_suites_of_intents
from tests.support.working import extract, validate

BILLING = {"kind": "intent", "labels": ["billing"]}


@pytest.fixture
def suites(ada) -> list:
    return seal_suites_of_intents(ada)


@pytest.fixture
def ask(api, ada, base_model, contrast_set, suites):
    def send(**said):
        recipe = {"vector": "warm", "layers": [2, 3], **said}
        body = {"kind": "extraction", "base_model": "harbor-support", "contrast_set": "empathy", "suites": [each.name for each in suites]}
        return api(ada).post("/api/v1/jobs", {**body, "recipe": recipe})

    return send


def test_both_are_asked_for_with_the_recipe_and_told_with_the_evidence(api, ada, ask, suites):
    answer = ask(system_message="You answer for Harbor.", condition=BILLING)
    assert (answer.status_code, answer.json()["recipe"]["condition"]) == (201, BILLING)
    vector = extract(Job.objects.get(), seed=8)
    evaluation = validate(request_validation(vector=vector, suites=suites, actor=ada))
    told = api(ada).get(f"/api/v1/evaluations/{evaluation.pk}").json()
    assert (told["condition"], told["system_message"]) == (BILLING, "You answer for Harbor.")
    left = api(ada).get(f"/api/v1/jobs/{evaluation.job_id}").json()["evaluation"]
    assert (left["condition"], left["system_message"]) == (BILLING, "You answer for Harbor.")


def test_a_probe_is_named_as_people_call_it(ask, train_probe):
    train_probe()
    answer = ask(condition={"kind": "probe", "probe": "refund-intent"})
    assert answer.json()["recipe"]["condition"] == {"kind": "probe", "probe": "refund-intent@1"}


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"system_message": 7}, 422, "RECIPE_SYSTEM_MESSAGE"),
        ({"condition": {"kind": "intent", "labels": [7]}}, 422, "RECIPE_CONDITION"),
        ({"condition": {"kind": "intent", "labels": ["refund"]}}, 422, "INTENT_NOBODY_SENDS"),
        ({"condition": {"kind": "probe", "probe": "nobody"}}, 404, "PROBE_NOT_FOUND"),
        ({"condition": {"kind": "probe", "probe": {"id": 1}}}, 422, "RECIPE_CONDITION"),
    ],
)
def test_what_makes_no_sense_is_refused_by_code_and_nothing_is_queued(ask, said, status, code):
    answer = ask(**said)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not Job.objects.exists()
