"""The lineage of an imported vector is what its file claims: that is said wherever it is shown, and a risk policy can refuse it."""

import json

import pytest
from django.urls import reverse

from registry.errors import TransitionRefused
from registry.manifests.export import export_manifests
from registry.manifests.plan import Options, make_plan
from registry.models import AuditEvent, RiskPolicy
from registry.services.demands import list_requirements
from registry.services.policies import change_policy
from registry.services.profiles import draft_revision, submit_revision
from tests.support.components import add


@pytest.fixture
def strict(policy_terms, root):
    """The risk class `low` takes no claimed lineage."""
    return change_policy("low", terms=policy_terms(refuses_claimed_lineage=True), reason="We know what we made.", actor=root)


@pytest.fixture
def made_here(extract, base_model):
    return extract(base_model, "warmth")


def test_an_imported_vector_says_so_wherever_it_is_shown(api, client, ada, vector, made_here):
    shown = {row["id"]: row["is_lineage_claimed"] for row in api(ada).get("/api/v1/vectors").json()["results"]}
    assert shown == {str(vector.pk): True, str(made_here.pk): False}
    event = AuditEvent.objects.get(action="vector.imported")
    assert json.loads(bytes(event.body))["details"]["lineage"] == "claimed"
    client.force_login(ada)
    pages = {row: client.get(reverse("console:vector", args=[row.pk])).text for row in (vector, made_here)}
    assert "lineage claimed" in pages[vector]
    assert "lineage claimed" not in pages[made_here]
    conditions = {
        document["metadata"]["name"]: {each["type"]: each["status"] for each in document["status"]["conditions"]}
        for document in export_manifests(kinds=["SteeringVector"], with_status=True)
    }
    assert {name: found["LineageKnown"] for name, found in conditions.items()} == {"empathy": "False", "warmth": "True"}


def test_a_policy_refuses_a_revision_of_an_imported_vector_and_takes_one_made_here(
    strict, ada, profile, draft, evaluation, made_here, evaluate
):
    with pytest.raises(TransitionRefused) as refused:
        submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    assert refused.value.code == "LINEAGE_CLAIMED"
    assert "vectors that were made here, by a job" in [each.demand for each in list_requirements(draft) if each.problem is not None]
    judged = evaluate(made_here)
    own = draft_revision(profile, components=[add(made_here, str(judged.alpha))], author=ada)
    assert submit_revision(own.pk, evaluation=judged, actor=ada).state == "submitted"


def test_a_probe_of_an_imported_vector_is_refused_too(strict, ada, profile, vector, made_here, evaluate):
    judged = evaluate(made_here)
    probe = {"kind": "probe", "vector": vector, "read_position": "all", "scale": "1", "bias": "0", "threshold": "0"}
    own = draft_revision(profile, components=[add(made_here, str(judged.alpha))], safety_override=[probe], author=ada)
    with pytest.raises(TransitionRefused) as refused:
        submit_revision(own.pk, evaluation=judged, actor=ada)
    assert refused.value.code == "LINEAGE_CLAIMED"


def test_what_was_demanded_before_reads_as_it_did(submitted):
    assert "refuses_claimed_lineage" not in submitted.demands


def test_every_door_states_it_and_a_file_that_does_not_know_of_it_demands_nothing_new(strict, api, root, as_browser_of):
    (exported,) = export_manifests(kinds=["RiskPolicy"], names=["low"])
    assert exported["spec"]["refusesClaimedLineage"] is True
    assert not make_plan([exported], Options()).changes
    older = {name: value for name, value in exported["spec"].items() if name != "refusesClaimedLineage"}
    (step,) = make_plan([{**exported, "spec": older}], Options()).changes
    assert step.spec["refusesClaimedLineage"] is False
    row = api(root).get("/api/v1/risk-policies/low").json()
    assert row["refuses_claimed_lineage"] is True
    body = {name: value for name, value in row.items() if name not in ("id", "name", "changed_by", "changed_at", "refuses_claimed_lineage")}
    assert api(root).put("/api/v1/risk-policies/low", body).json()["refuses_claimed_lineage"] is False
    page = as_browser_of(root).get(reverse("console:policy", args=["low"])).text
    assert 'name="refuses_claimed_lineage"' in page
    assert not RiskPolicy.objects.get(name="low").refuses_claimed_lineage


@pytest.fixture
def as_browser_of(client):
    def of(person):
        client.force_login(person)
        return client

    return of
