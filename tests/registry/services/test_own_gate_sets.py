"""Gate sets of the organisation: sealed by content, resolved when a job is made or a policy is set, and told by name ever after."""

import pytest
from django.db import IntegrityError, transaction

from registry.errors import InvalidInput, TransitionRefused
from registry.models import AuditEvent, GateSet
from registry.reads.documents import policy_document
from registry.services.gates import seal_gate_set
from registry.services.job_requests import request_extraction, request_validation
from registry.services.jobs import claim_job, fail_job
from registry.services.policies import change_policy, create_policy
from registry.services.proposals import _adapt
from registry.services.results import complete_validation
from steernode.errors import AlphaError, GateError
from steernode.gates import gate_sets, load_gates, shipped_set
from steernode.records.evidence import read_evidence
from tests.support.working import extract

FACTS = {"metric": "facts", "kind": "min", "threshold": "0.9", "why": "Nine of ten."}
DEPTH = {"metric": "layer_depth", "kind": "below", "threshold": "0.60", "why": "Deeper layers pick words."}


@pytest.fixture
def tone(grace):
    return seal_gate_set("our-tone", about="Tone of billing replies.", gates=[FACTS, DEPTH], author=grace)


def bare(*gates):
    return [{key: gate[key] for key in ("metric", "kind", "threshold")} for gate in gates]


def test_the_same_gates_are_the_same_version_and_others_the_next(tone, grace):
    assert (tone.version, tone.gates[1]["threshold"]) == (1, "0.6")
    assert seal_gate_set("our-tone", about=tone.about, gates=tone.gates, author=grace) == tone
    other = seal_gate_set("our-tone", about=tone.about, gates=[FACTS, {**DEPTH, "why": "Another reason."}], author=grace)
    assert (other.version, other.digest == tone.digest) == (2, False)
    assert AuditEvent.objects.filter(action="gate_set.sealed").count() == 2


def test_the_same_gates_under_another_name_are_a_set_of_their_own(tone, grace):
    assert seal_gate_set("your-tone", about=tone.about, gates=tone.gates, author=grace).version == 1


BAD = {
    "unknown metric": ([{**FACTS, "metric": "charm"}], GateError, "GATE_INVALID", "charm"),
    "unknown kind": ([{**FACTS, "kind": "about"}], GateError, "GATE_INVALID", "about"),
    "no reason": ([{**FACTS, "why": " "}], GateError, "GATE_INVALID", None),
    "a field too many": ([{**FACTS, "note": "x"}], GateError, "GATE_INVALID", None),
    "the same gate twice": ([FACTS, {**FACTS, "threshold": "0.90"}], GateError, "GATE_INVALID", None),
    "no gate": ([], GateError, "GATE_INVALID", None),
    "no number": ([{**FACTS, "threshold": "low"}], AlphaError, "ALPHA_FORMAT", None),
}


@pytest.mark.parametrize(("gates", "error", "code", "item"), BAD.values(), ids=BAD)
def test_gates_that_nobody_can_judge_are_refused_by_what_is_wrong_with_them(grace, gates, error, code, item):
    with pytest.raises(error) as refused:
        seal_gate_set("our-tone", about="Tone.", gates=gates, author=grace)
    assert refused.value.code == code
    assert item is None or refused.value.item == item
    assert not GateSet.objects.exists()


@pytest.mark.parametrize("name", [*gate_sets(), "Default"])
def test_a_name_that_ships_cannot_be_taken(grace, name):
    with pytest.raises(TransitionRefused) as refused:
        seal_gate_set(name, about="Mine.", gates=[FACTS], author=grace)
    assert refused.value.code == "GATE_SET_TAKEN"


@pytest.mark.parametrize("statement", ["UPDATE registry_gateset SET about = 'x'", "DELETE FROM registry_gateset"])
def test_database_keeps_a_version_as_it_was_sealed(tone, statement):
    from django.db import connection

    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_a_recipe_keeps_the_gates_and_which_set_they_are_whatever_becomes_of_the_name(
    tone, base_model, contrast_set, suites, ada, grace, settings
):
    inputs = {"base_model": base_model, "contrast_set": contrast_set, "suites": suites, "actor": ada}
    job = request_extraction(**inputs, recipe={"vector": "warm", "gates": "our-tone"})
    seal_gate_set("our-tone", about="Other.", gates=[FACTS], author=grace)
    named = {"name": "our-tone", "version": 1, "digest": tone.digest}
    assert (job.recipe["gates"], job.recipe["gate_set"]) == (bare(*tone.gates), named)
    vector = extract(job)
    validation = request_validation(vector=vector, suites=suites, actor=ada)
    assert (validation.recipe["gates"], validation.recipe["gate_set"]) == (bare(*tone.gates), named)
    newest = request_extraction(**inputs, recipe={"vector": "warmer", "gates": "our-tone"}).recipe
    assert (newest["gates"], newest["gate_set"]["version"]) == (bare(FACTS), 2)
    first = request_extraction(**inputs, recipe={"vector": "warmest", "gates": "our-tone@1", "max_new_tokens": 65})
    assert first.recipe["gate_set"] == named
    assert _adapt(first.recipe, base_model)["gates"] == "our-tone@1"


def test_a_set_that_ships_and_gates_of_ones_own_are_told_apart(base_model, contrast_set, suites, ada):
    inputs = {"base_model": base_model, "contrast_set": contrast_set, "suites": suites, "actor": ada}
    shipped = request_extraction(**inputs, recipe={"vector": "warm"}).recipe
    assert shipped["gates"] == list(load_gates("default"))
    assert shipped["gate_set"] == shipped_set("default").named
    assert request_extraction(**inputs, recipe={"vector": "warm", "gates": bare(FACTS)}).recipe["gate_set"] == {}
    for gates, code in (("nothing", "RECIPE_GATES"), ("our-tone@7", "RECIPE_GATES"), (bare({**FACTS, "metric": "charm"}), "GATE_INVALID")):
        with pytest.raises((InvalidInput, GateError)) as refused:
            request_extraction(**inputs, recipe={"vector": "warm", "gates": gates})
        assert refused.value.code == code
    with pytest.raises(InvalidInput, check=lambda error: error.code == "RECIPE_UNKNOWN_FIELD"):
        request_extraction(**inputs, recipe={"vector": "warm", "gates": bare(FACTS), "gate_set": shipped_set("default").named})


def test_an_imported_vector_is_held_to_whatever_set_is_asked_for(tone, vector, suites, ada):
    job = request_validation(vector=vector, suites=suites, actor=ada, alpha="0.5", gates="our-tone")
    assert job.recipe["gate_set"]["name"] == "our-tone"
    fail_job(claim_job(job.pk, worker="w"), code="MODEL_MISSING", message="gone")
    assert request_validation(vector=vector, suites=suites, actor=ada, alpha="0.5").recipe["gate_set"]["name"] == "default"


def test_a_policy_demands_the_version_that_was_the_newest_when_it_was_set(tone, policy_terms, grace, vector, draft, suites, ada):
    policy = create_policy("billing", terms=policy_terms(gate_set="our-tone"), reason="Ours.", actor=grace)
    assert policy_document(policy)["gate_set"] == "our-tone@1"
    seal_gate_set("our-tone", about="Narrower.", gates=[{**FACTS, "threshold": "0.99"}], author=grace)
    # The same terms said again change nothing by themselves: the version was said.
    assert change_policy("billing", terms=policy_terms(gate_set="our-tone@1"), reason="As before.", actor=grace).reason == "Ours."
    assert change_policy("billing", terms=policy_terms(gate_set="our-tone"), reason="New.", actor=grace).gate_set == "our-tone@2"
    for name in ("composition", "nothing", "our-tone@3"):
        with pytest.raises(InvalidInput, check=lambda error: error.code == "POLICY_GATES"):
            create_policy("other", terms=policy_terms(gate_set=name), reason="x", actor=grace)


def test_evidence_is_held_to_the_version_that_the_policy_demands(tone, policy_terms, grace, vector, draft, suites, ada):
    from registry.services.profiles import submit_revision

    change_policy("low", terms=policy_terms(gate_set="our-tone"), reason="Ours.", actor=grace)
    job = request_validation(vector=vector, suites=suites, actor=ada, alpha="0.5", gates=bare({**FACTS, "threshold": "0.8"}, DEPTH))
    gates = [{**gate, "value": gate["threshold"], "verdict": "pass"} for gate in job.recipe["gates"]]
    evaluation = complete_validation(claim_job(job.pk, worker="w"), read_evidence({"metrics": {}, "gates": gates, "verdict": "pass"}))
    with pytest.raises(TransitionRefused, match=r"facts min 0\.9") as refused:
        submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    assert refused.value.code == "GATES_WEAK"
    assert "our-tone@1" in refused.value.message
