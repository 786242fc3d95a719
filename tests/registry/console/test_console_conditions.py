"""Where a vector acts and what it is served under: asked for in a form, and told to who reads evidence."""

import pytest
from django.urls import reverse

from registry.blobs import put_blob
from registry.models import Evaluation, Job, ProfileRevision
from registry.services.job_requests import request_extraction, request_validation
from registry.services.profiles import draft_revision
from steernode.canonical import canonical_json
from tests.support.components import add, restate
from tests.support.suites import seal_suites_of_intents
from tests.support.working import extract, validate
from tests.support.world import unguarded

BILLING = {"kind": "intent", "labels": ["billing"]}
SERVED = "You answer for <Harbor>.\nBe brief."


@pytest.fixture
def suites(ada) -> list:
    return seal_suites_of_intents(ada)


@pytest.fixture
def asked(base_model, contrast_set, suites):
    chosen = {suite.kind: str(suite.pk) for suite in suites}
    return {"vector": "warm", "base_model": base_model.pk, "contrast_set": contrast_set.pk, "layers": "2, 3", **chosen}


@pytest.fixture
def judged(base_model, contrast_set, suites, ada) -> Evaluation:
    recipe = {"vector": "warm", "layers": [2], "system_message": SERVED, "condition": BILLING}
    job = request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe=recipe, actor=ada)
    evaluation = validate(request_validation(vector=extract(job, seed=8), suites=suites, actor=ada))
    acting = {"behaviour": {"items": 6, "acts_on": 3}, "facts": {"items": 6, "acts_on": 4}}
    digest = put_blob(canonical_json({"run": {"system_message": SERVED}, "acting": acting}))
    with unguarded("registry_evaluation"):
        Evaluation.objects.filter(pk=evaluation.pk).update(digest=digest)
    evaluation.refresh_from_db()
    return evaluation


@pytest.mark.parametrize(
    ("typed", "condition", "words"),
    [
        ({"intents": "billing, technical"}, {**BILLING, "labels": ["billing", "technical"]}, "if the intent is billing or technical"),
        ({"attribute": "product = billing"}, {"kind": "attribute", "name": "product", "values": ["billing"]}, "if product is billing"),
        ({"probe": "refund-intent"}, {"kind": "probe", "probe": "refund-intent@1"}, "if the probe refund-intent@1 fires"),
    ],
)
def test_an_extraction_is_asked_for_with_both(as_person, ada, asked, train_probe, typed, condition, words):
    probe = train_probe()
    typed = {**typed, "probe": str(probe.pk)} if "probe" in typed else typed
    data = {**asked, **typed, "system_message": SERVED.replace("\n", "\r\n")}
    page = as_person(ada).post(reverse("console:start-extraction"), data, follow=True)
    recipe = Job.objects.get(kind="extraction").recipe
    assert (recipe["condition"], recipe["system_message"]) == (condition, SERVED)
    assert words in page.text


def test_what_is_left_empty_says_nothing(as_person, ada, asked):
    as_person(ada).post(reverse("console:start-extraction"), asked)
    assert not {"system_message", "condition"} & set(Job.objects.get().recipe)
    assert 'name="probe"' not in as_person(ada).get(reverse("console:new-extraction")).text


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"intents": "billing", "attribute": "product = billing"}, "One condition decides"),
        ({"intents": "refund"}, "INTENT_NOBODY_SENDS"),
        ({"intents": "billing and technical"}, "RECIPE_CONDITION"),
        ({"attribute": "product"}, "RECIPE_CONDITION"),
        ({"attribute": "locale = de-DE"}, "CONDITION_NEVER"),
        ({"system_message": "w" * 8001}, "8000"),
    ],
)
def test_what_cannot_be_read_comes_back_as_it_was_typed(as_person, ada, asked, typed, said):
    page = as_person(ada).post(reverse("console:start-extraction"), {**asked, **typed})
    assert page.status_code == 200
    assert said in page.text
    assert 'value="warm"' in page.text
    assert not Job.objects.exists()


def test_who_reads_evidence_is_told_where_and_under_what_it_was_measured(as_person, grace, ada, profile, judged):
    component = restate(add(judged.vector, "0.5"), condition=BILLING)
    revision = draft_revision(profile, components=[component], author=ada)
    for where in (reverse("console:vector", args=[judged.vector_id]), reverse("console:revision", args=[revision.pk])):
        text = as_person(grace).get(where).text
        assert "if the intent is billing: on 3 of 6 tickets, 4 of 6 facts" in text
        assert "You answer for &lt;Harbor&gt;." in text


def test_evidence_from_elsewhere_is_not_offered_and_the_page_asks_for_its_own(as_person, ada, profile, judged):
    revision = draft_revision(profile, components=[add(judged.vector, "0.5")], author=ada)
    text = as_person(ada).get(reverse("console:revision", args=[revision.pk])).text
    assert reverse("console:compose-revision", args=[revision.pk]) in text
    assert reverse("console:submit-revision", args=[revision.pk]) not in text


def test_a_draft_of_the_vector_acts_where_it_was_made_to(as_person, ada, profile, judged, train_probe):
    train_probe()
    page = as_person(ada).get(reverse("console:vector", args=[judged.vector_id])).text
    assert "it steers if the intent is billing" in page
    assert 'name="probe"' not in page
    data = {"profile": profile.pk, "alpha": "0.5", "alpha_min": "0", "alpha_max": "0.5", "rationale": ""}
    data |= {"stale_policy": "zero", "max_staleness_seconds": "900"}
    as_person(ada).post(reverse("console:draft-revision", args=[judged.vector_id]), data)
    assert ProfileRevision.objects.get().components.get().condition == BILLING
