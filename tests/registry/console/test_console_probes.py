"""Probes for people: prompts uploaded, a probe asked for, its page with the ROC curve, and the revision that names it."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from registry.models import Job, ProfileRevision, PromptSet
from registry.services.job_requests import request_extraction, request_validation
from registry.services.jobs import claim_job, fail_job
from registry.services.results import complete_validation
from steernode.records.evidence import read_evidence
from tests.support import story
from tests.support.prompts import prompt_file
from tests.support.working import PICTURE, extract, train


def test_prompts_are_uploaded_and_a_bad_line_is_named(as_person, ada):
    where = reverse("console:upload-prompt-set")
    page = as_person(ada).post(where, {"name": "intents", "file": SimpleUploadedFile("p.jsonl", prompt_file())}, follow=True)
    assert PromptSet.objects.get().prompt_count == 120
    assert "intents v1" in page.text
    bad = SimpleUploadedFile("p.jsonl", prompt_file() + b'{"id": "x"}\n')
    assert "PROMPTS_SPLIT" in as_person(ada).post(where, {"name": "others", "file": bad}).text
    assert "Upload labelled prompts" in as_person(ada).get(reverse("admin:registry_promptset_changelist")).text


def test_a_probe_is_asked_for_and_its_page_shows_the_roc(as_person, ada, base_model, prompt_set):
    data = {"probe": "refund-intent", "base_model": base_model.pk, "prompt_set": prompt_set.pk, "intent": "refund"}
    data |= {"below": "2", "target_false_positive_rate": "0.05"}
    assert "New probe" in as_person(ada).get(reverse("console:new-probe")).text
    refused = as_person(ada).post(reverse("console:start-probe"), {**data, "layers": "2"}).text
    assert "PROBE_LAYER" in refused
    assert 'value="refund-intent"' in refused
    page = as_person(ada).post(reverse("console:start-probe"), data, follow=True)
    job = Job.objects.get()
    assert page.redirect_chain[0][0] == reverse("console:job", args=[job.pk])
    assert "intents v1" in page.text
    probe = train(job)
    assert reverse("console:probe", args=[probe.pk]) in as_person(ada).get(reverse("console:job", args=[job.pk])).text
    shown = as_person(ada).get(reverse("console:probe", args=[probe.pk])).text
    for words in ("the intent refund", "0.97", "en-GB", reverse("console:roc", args=[probe.pk])):
        assert words in shown
    assert as_person(ada).get(reverse("console:roc", args=[probe.pk])).content == PICTURE
    assert "0.97 [0.91, 0.99]" in as_person(ada).get(reverse("admin:registry_probe_changelist")).text


@pytest.mark.usefixtures("evaluation")
def test_a_draft_may_hang_on_a_probe_and_its_page_names_it_with_its_roc(as_person, ada, profile, vector, train_probe):
    probe, late = train_probe(), train_probe("late", layer=3)
    page = as_person(ada).get(reverse("console:vector", args=[vector.pk])).text
    assert str(probe) in page
    assert str(late) not in page
    data = {"profile": profile.pk, "alpha": "0.5", "alpha_min": "0", "alpha_max": "0.5", "probe": probe.pk}
    data |= {"stale_policy": "zero", "max_staleness_seconds": "900", "rationale": ""}
    shown = as_person(ada).post(reverse("console:draft-revision", args=[vector.pk]), data, follow=True).text
    revision = ProfileRevision.objects.get()
    assert revision.probes[0]["name"] == "refund-intent"
    for words in ("Probe <a", "refund-intent v1", reverse("console:roc", args=[probe.pk]), "0.97"):
        assert words in shown
    assert str(revision) in as_person(ada).get(reverse("console:probe", args=[probe.pk])).text


@pytest.fixture
def ask_where_it_fires(ada, base_model, contrast_set, suites):
    """An extraction of what acts only where the probe fires."""

    def run():
        recipe = {"vector": "warmth", "layers": [2], "condition": {"kind": "probe", "probe": "refund-intent"}}
        return request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe=recipe, actor=ada)

    return run


def test_evidence_of_what_a_probe_decides_shows_the_probe_with_its_roc_and_where_it_acted(
    as_person, api, ada, grace, suites, train_probe, ask_where_it_fires
):
    probe = train_probe()
    vector = extract(ask_where_it_fires(), seed=8)
    job = request_validation(vector=vector, suites=suites, actor=ada)
    acting = {"behaviour": {"items": 40, "acts_on": 31}, "facts": {"items": 60, "acts_on": 4}}
    evaluation = complete_validation(claim_job(job.pk, worker="w"), read_evidence({**story.make_evidence(vector), "acting": acting}))
    client = as_person(grace)
    for page in (reverse("console:job", args=[job.pk]), reverse("console:vector", args=[vector.pk])):
        shown = client.get(page).text
        for words in ("31 of 40 tickets, 4 of 60 facts", "layer 1, learned from intents v1", "0.97", "0.91 to 0.99"):
            assert words in shown
        assert "It fires on 90 % (70 % to 97 %) of the prompts of the intent refund, and on 5 % (70 % to 97 %) of the others." in shown
        assert f'href="{reverse("console:probe", args=[probe.pk])}"' in shown
        assert f'src="{reverse("console:roc", args=[probe.pk])}"' in shown
    (stated,) = api(grace).get(f"/api/v1/evaluations/{evaluation.pk}").json()["probes"]
    assert (stated["name"], stated["version"], stated["document"]) == ("refund-intent", 1, probe.document_digest)
    assert stated["held_out"]["auc"]["value"] == "0.97"


def test_a_search_that_failed_leads_to_the_probe_that_it_was_asked_with(as_person, grace, train_probe, ask_where_it_fires):
    probe = train_probe()
    job = ask_where_it_fires()
    fail_job(claim_job(job.pk, worker="w"), code="NO_CELL_PASSES", message="none of 14 cells passes every gate")
    shown = as_person(grace).get(reverse("console:job", args=[job.pk])).text
    assert f'href="{reverse("console:probe", args=[probe.pk])}"' in shown


def test_evidence_of_what_acts_everywhere_names_no_probe(as_person, api, grace, evaluation, train_probe):
    probe = train_probe()
    shown = as_person(grace).get(reverse("console:job", args=[evaluation.job_id])).text
    assert reverse("console:probe", args=[probe.pk]) not in shown
    assert api(grace).get(f"/api/v1/evaluations/{evaluation.pk}").json()["probes"] == []
