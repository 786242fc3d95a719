"""A recipe that says where its vector acts and what it is served under, as a manifest."""

import pytest

from registry.manifests.documents import ManifestsRefused
from registry.manifests.export import export_manifests
from registry.manifests.risks import Risks
from registry.models import Job
from tests.support.declaring import actions, manifest, profile_manifest
from tests.support.suites import seal_suites_of_intents
from tests.support.working import extract, validate

BILLING = {"kind": "intent", "labels": ["billing"]}
NAMED = {"kind": "probe", "probe": "refund-intent@1"}
STATED = {"kind": "probe", "vector": "empathy@1", "readPosition": "last_prompt_token", "scale": "1", "bias": "0", "threshold": "0.5"}
PART = {"vector": "warm@1", "alpha": "0.5", "alphaMin": "0", "alphaMax": "0.5", "unit": "mean_difference"}


@pytest.fixture
def suites(ada) -> list:
    return seal_suites_of_intents(ada)


@pytest.fixture
def warm(base_model, contrast_set, suites):
    """A manifest of the vector `warm`: warm(condition=BILLING)."""
    inputs = {"baseModel": "harbor-support", "contrastSet": "empathy", "suites": [suite.name for suite in suites], "layers": [2, 3]}
    return lambda **said: manifest("SteeringVector", "warm", recipe={**inputs, **said})


def refused(plan, *documents) -> dict[str, str]:
    with pytest.raises(ManifestsRefused) as fault:
        plan(documents)
    return {each["field"]: each["code"] for each in fault.value.errors}


@pytest.mark.parametrize("condition", [BILLING, NAMED, STATED, {"kind": "attribute", "name": "product", "values": ["billing"]}])
def test_what_a_recipe_says_comes_back_from_an_export_as_it_was_said(plan, apply, warm, vector, train_probe, condition):
    train_probe()
    said = {"systemMessage": "You answer for Harbor.\nBe brief.", "condition": condition}
    assert actions(plan([warm(**said)])) == {"SteeringVector warm": "create"}
    apply([warm(**said)])
    job = Job.objects.get(kind="extraction")
    # While its job runs, and after.
    assert actions(plan([warm(**said)])) == {"SteeringVector warm": "no-op"}
    extract(job, seed=8)
    (exported,) = export_manifests(kinds=["SteeringVector"], names=["warm"])
    assert {name: exported["spec"]["recipe"][name] for name in said} == said
    assert actions(plan([exported])) == {"SteeringVector warm": "no-op"}
    assert actions(plan([warm(**{**said, "systemMessage": "Be long."})])) == {"SteeringVector warm": "update"}
    assert actions(plan([warm(systemMessage=said["systemMessage"])])) == {"SteeringVector warm": "update"}


def test_a_recipe_that_says_neither_is_as_before(plan, apply, warm):
    apply([warm()])
    job = Job.objects.get()
    assert not {"system_message", "condition"} & set(job.recipe)
    assert actions(plan([warm()])) == actions(plan([warm(systemMessage="")])) == {"SteeringVector warm": "no-op"}
    extract(job, seed=8)
    (exported,) = export_manifests(kinds=["SteeringVector"], names=["warm"])
    assert (exported["spec"]["recipe"]["systemMessage"], "condition" in exported["spec"]["recipe"]) == ("", False)
    assert actions(plan([exported])) == {"SteeringVector warm": "no-op"}


def test_a_recipe_names_the_latest_probe_and_its_plan_sees_that_it_moved(plan, apply, warm, train_probe):
    train_probe()
    latest = warm(condition={**NAMED, "probe": "refund-intent"})
    apply([latest])
    extract(Job.objects.get(kind="extraction"), seed=8)
    assert actions(plan([latest])) == {"SteeringVector warm": "no-op"}
    train_probe(threshold="2")
    planned = plan([latest])
    assert actions(planned) == {"SteeringVector warm": "update"}
    assert "refund-intent@2" in str(planned.steps[0].changes)


def test_what_could_not_be_judged_is_a_fault_of_the_plan_and_nothing_is_queued(plan, warm, train_probe):
    train_probe(layer=2)
    recipe = "documents.0.spec.recipe"
    assert refused(plan, warm(condition={**BILLING, "labels": ["refund"]})) == {recipe: "INTENT_NOBODY_SENDS"}
    assert refused(plan, warm(condition={"kind": "attribute", "name": "locale", "values": ["de-DE"]})) == {recipe: "CONDITION_NEVER"}
    assert refused(plan, warm(condition=NAMED)) == {recipe: "PROBE_LAYER"}
    assert refused(plan, warm(condition={"kind": "intent"})) == {recipe: "RECIPE_CONDITION"}
    assert refused(plan, warm(condition={**NAMED, "probe": "nobody"})) == {f"{recipe}.condition.probe": "MANIFEST_REFERENCE"}
    assert refused(plan, warm(condition={**BILLING, "kind": "moon"})) == {f"{recipe}.condition.kind": "MANIFEST_VALUE"}
    assert refused(plan, warm(systemMessage="w" * 8001)) == {f"{recipe}.systemMessage": "MANIFEST_VALUE"}
    assert refused(plan, warm(systemMessage="a\x00b")) == {recipe: "RECIPE_SYSTEM_MESSAGE"}
    assert not Job.objects.filter(kind="extraction").exists()


def test_the_plan_of_a_draft_says_where_its_vector_was_evaluated(plan, apply, warm, ada, suites):
    from registry.services.job_requests import request_validation

    apply([warm(condition=BILLING)])
    vector = extract(Job.objects.get(), seed=8)
    validate(request_validation(vector=vector, suites=suites, actor=ada))

    (exported,) = export_manifests(kinds=["SteeringVector"], names=["warm"], with_status=True)
    status = {each["type"]: each.get("message", "") for each in exported["status"]["conditions"]}
    assert status["EvidenceComplete"] == "measured if the intent is billing"

    def risks(part) -> dict[str, str]:
        planned = plan([profile_manifest("warm", revision={"components": [part]})])
        return {risk.code: risk.message for step in planned.steps for risk in Risks(planned).of(step)}

    assert "evaluated if the intent is billing" in risks(PART)["EVIDENCE_MISSING"]
    assert "EVIDENCE_MISSING" not in risks({**PART, "condition": BILLING})
