"""Where a vector is to act and what it is served under: from the recipe, through the jobs, to evidence that is of nothing else."""

import json

import pytest
from django.db import IntegrityError, transaction

from registry.errors import InvalidInput, TransitionRefused
from registry.models import AuditEvent, Evaluation, Job, ProfileRevision, SteeringVector
from registry.reads.evidence import evidence_of
from registry.services.base_models import register_base_model
from registry.services.compositions import request_composition
from registry.services.demands import list_requirements
from registry.services.evals import seal_eval_suite
from registry.services.job_requests import request_extraction, request_validation
from registry.services.probes import request_probe
from registry.services.profiles import draft_revision, submit_revision
from registry.services.proposals import accept_proposal, propose_extractions
from tests.support.components import add, restate
from tests.support.files import lines, make_suite, rubric_file, write_model_folder
from tests.support.suites import seal_suites_of_intents
from tests.support.unopened import unopened_suites
from tests.support.working import extract, train, validate
from tests.support.world import unguarded

BILLING = {"kind": "intent", "labels": ["billing"]}
AMERICAN = {"kind": "attribute", "name": "locale", "values": ["en-US"]}
SERVED = "You answer for Harbor.\nBe brief."


def refused(code: str, kind=InvalidInput):
    return pytest.raises(kind, check=lambda error: error.code == code)


@pytest.fixture
def suites(ada) -> list:
    """The world's, whose tickets say what they are about."""
    return seal_suites_of_intents(ada)


@pytest.fixture
def ask(base_model, contrast_set, suites, ada):
    def request(*, base=base_model, among=suites, draft_for=None, **recipe) -> Job:
        asked = {"base_model": base, "contrast_set": contrast_set, "suites": among, "draft_for": draft_for, "actor": ada}
        return request_extraction(**asked, recipe={"vector": "warm", **recipe})

    return request


@pytest.fixture
def make(ask):
    """A vector out of a recipe: make(8, condition=BILLING)."""
    # Each by a search of its own: the same search would make the same vector.
    return lambda seed, **recipe: extract(ask(vector=f"warm-{seed}", max_new_tokens=seed, **recipe), seed=seed)


@pytest.fixture
def judged(make, suites, ada):
    """A vector out of a recipe, and what its validation left."""

    def run(seed: int, **recipe) -> tuple[SteeringVector, Evaluation]:
        vector = make(seed, **recipe)
        return vector, validate(request_validation(vector=vector, suites=unopened_suites(suites, vector, ada), actor=ada))

    return run


# -- The recipe -----------------------------------------------------------------------------------------------------------------


def test_a_recipe_keeps_what_it_says_and_nothing_of_what_it_does_not(ask):
    assert not {"system_message", "condition"} & set(ask().recipe)
    recipe = ask(vector="other", system_message=SERVED, condition=BILLING).recipe
    assert (recipe["system_message"], recipe["condition"]) == (SERVED, BILLING)


def test_a_recipe_names_a_probe_in_full(ask, train_probe):
    train_probe()
    train_probe(threshold="2")
    assert ask(condition={"kind": "probe", "probe": "refund-intent"}, layers=[2, 3]).recipe["condition"] == {
        "kind": "probe",
        "probe": "refund-intent@2",
    }


def test_a_recipe_may_state_a_probe_of_its_own_along_a_vector(ask, vector):
    stated = {"kind": "probe", "vector": "empathy", "read_position": "last_prompt_token", "scale": "1", "bias": "0", "threshold": "0.5"}
    assert ask(condition=stated).recipe["condition"] == {**stated, "vector": "empathy@1"}


def test_a_probe_that_could_not_be_decided_with_what_is_found_is_refused(ask, train_probe, model_root, ada):
    train_probe()
    named = {"kind": "probe", "probe": "refund-intent@1"}
    with refused("PROBE_LAYER"):
        ask(condition=named, layers=[1, 2])
    with refused("TEMPLATE_ARGUMENTS_DIFFER"):
        ask(condition=named, layers=[2], template_arguments={"enable_thinking": False})
    write_model_folder(model_root / "other-recipe", vocab_size=513)
    other = register_base_model("other", source="other-recipe", actor=ada)
    with refused("RECIPE_CONDITION") as foreign:
        ask(condition=named, layers=[2], base=other)
    assert "refund-intent v1" in foreign.value.message
    assert not Job.objects.filter(kind="extraction").exists()


@pytest.mark.parametrize(
    ("intents", "labels", "said"),
    [
        ((), ["billing"], "says its own"),
        (("billing", "technical"), ["billing", "refund"], "'refund'; they have billing, technical"),
        (("billing", "technical"), ["Billing"], "'Billing'"),
    ],
)
def test_an_intent_that_no_item_carries_is_refused_before_anything_is_queued(ask, suites, ada, intents, labels, said):
    data = make_suite("behaviour", intents).replace(b"question", b"matter")
    tickets = seal_eval_suite("others", kind="behaviour", data=data, rubric=rubric_file(), author=ada)
    with refused("INTENT_NOBODY_SENDS") as nobody:
        ask(among=[tickets, *suites[1:]], condition={"kind": "intent", "labels": labels})
    assert said in nobody.value.message
    assert not Job.objects.exists()


@pytest.mark.parametrize(("holds_on", "other"), [("select", "test"), ("test", "select")])
def test_a_condition_that_holds_on_no_ticket_of_a_split_is_refused(ask, suites, ada, holds_on, other):
    rows = [json.loads(line) for line in make_suite("behaviour", ("billing", "technical")).splitlines()]
    asked = [{**row, "intent": "billing" if row["split"] == holds_on else "technical"} for row in rows]
    tickets = seal_eval_suite("others", kind="behaviour", data=lines(asked), rubric=rubric_file(), author=ada)
    with refused("CONDITION_NEVER") as never:
        ask(among=[tickets, *suites[1:]], condition=BILLING)
    assert f"the {other} split" in never.value.message
    assert ask(condition=AMERICAN).recipe["condition"] == AMERICAN


def test_a_validation_by_suites_that_say_no_intent_is_refused(make, suites, ada):
    vector = make(8, condition=BILLING)
    data = make_suite("behaviour").replace(b"question", b"matter")
    tickets = seal_eval_suite("others", kind="behaviour", data=data, rubric=rubric_file(), author=ada)
    with refused("INTENT_NOBODY_SENDS"):
        request_validation(vector=vector, suites=[tickets, *suites[1:]], actor=ada)


def test_a_proposal_for_other_files_does_not_take_a_probe_of_these_along(ask, train_probe, base_model, model_root, ada):
    train_probe()
    extract(ask(condition={"kind": "probe", "probe": "refund-intent"}, layers=[2]), seed=8)
    write_model_folder(model_root / "moved-recipe", vocab_size=514)
    moved = register_base_model("harbor-support", source="moved-recipe", actor=ada)
    [proposal] = propose_extractions(base_model, moved, why="It moved")
    with refused("RECIPE_CONDITION"):
        accept_proposal(proposal.pk, actor=ada)


# -- The evidence ---------------------------------------------------------------------------------------------------------------


def test_a_validation_is_asked_for_and_recorded_as_the_recipe_says(judged):
    _, evaluation = judged(8, condition=BILLING, system_message=SERVED)
    assert (evaluation.condition, evaluation.system_message) == (BILLING, SERVED)
    assert (evaluation.job.recipe["condition"], evaluation.job.recipe["system_message"]) == (BILLING, SERVED)
    details = json.loads(bytes(AuditEvent.objects.get(action="evaluation.recorded").body))["details"]
    assert (details["condition"], details["system_message"]) == (BILLING, SERVED)
    plain = judged(9)[1]
    assert (plain.condition, plain.system_message) == (None, "")
    assert not {"condition", "system_message"} & set(plain.job.recipe)


def test_evidence_where_a_probe_fires_keeps_what_nodes_read(judged, train_probe):
    probe = train_probe()
    _, evaluation = judged(8, condition={"kind": "probe", "probe": "refund-intent"}, layers=[2])
    assert evaluation.condition == probe.condition


def test_who_made_the_probe_of_a_condition_made_a_part_of_what_was_judged(judged, base_model, prompt_set, person, ada):
    bob = person("bob", "author", "approver")
    recipe = {"probe": "refund-intent", "intent": "refund", "layers": [1]}
    train(request_probe(base_model=base_model, prompt_set=prompt_set, recipe=recipe, actor=bob), layer=1)
    _, evaluation = judged(8, condition={"kind": "probe", "probe": "refund-intent"}, layers=[2])
    assert sorted(evaluation.judged_people) == sorted([ada.pk, bob.pk])


@pytest.mark.parametrize(("measured", "stated"), [(BILLING, None), (None, BILLING), (BILLING, {**BILLING, "labels": ["technical"]})])
def test_evidence_under_another_condition_is_of_another_subject(judged, profile, ada, suites, compose, measured, stated):
    vector, evaluation = judged(8, **({"condition": measured} if measured else {}))
    revision = draft_revision(profile, components=[restate(add(vector, "0.5"), condition=stated)], author=ada)
    with refused("EVIDENCE_MISMATCH", TransitionRefused) as mismatch:
        submit_revision(revision.pk, evaluation=evaluation, actor=ada)
    assert "if the intent is billing" in mismatch.value.message
    # What it does is judged as it acts, and then covered.
    assert evidence_of(revision) is None
    judged_as_it_acts = compose(revision)
    assert evidence_of(revision) == judged_as_it_acts
    assert judged_as_it_acts.condition is None
    assert submit_revision(revision.pk, evaluation=judged_as_it_acts, actor=ada).state == "submitted"


def test_evidence_under_the_same_condition_in_other_words_is_of_this_subject(judged, profile, ada, suites):
    both = {"kind": "intent", "labels": ["technical", "billing"]}
    vector, evaluation = judged(8, condition=both)
    component = restate(add(vector, "0.5"), condition={**both, "labels": ["billing", "technical"]})
    revision = draft_revision(profile, components=[component], author=ada)
    assert evidence_of(revision) == evaluation
    with refused("COMPOSITION_SIZE"):
        request_composition(revision=revision, suites=suites, actor=ada)
    assert submit_revision(revision.pk, evaluation=evaluation, actor=ada).state == "submitted"


def test_evidence_under_another_system_message_is_told_to_be_so(judged, profile, ada):
    vector, evaluation = judged(8, system_message=SERVED)
    revision = draft_revision(profile, components=[add(vector, "0.5")], author=ada)
    demand = "evidence under the system message that is served"
    assert {each.demand: each.problem for each in list_requirements(revision)}[demand] is None
    with unguarded("registry_evaluation"):
        Evaluation.objects.filter(pk=evaluation.pk).update(system_message="")
    evaluation.refresh_from_db()
    with refused("EVIDENCE_MISMATCH", TransitionRefused) as mismatch:
        submit_revision(revision.pk, evaluation=evaluation, actor=ada)
    assert "under no system message" in mismatch.value.message
    assert "You answer for Harbor." in mismatch.value.message


def test_a_composition_is_served_as_its_parts_were(judged, profile, ada, suites, compose):
    one, other, third = (judged(seed, system_message=served)[0] for seed, served in ((8, SERVED), (9, SERVED), (10, "Other.")))
    revision = draft_revision(profile, components=[add(one, "0.2"), add(other, "0.2")], author=ada)
    evaluation = compose(revision)
    assert evaluation.job.recipe["system_message"] == evaluation.system_message == SERVED
    apart = draft_revision(profile, components=[add(one, "0.2"), add(third, "0.2")], author=ada)
    with refused("SYSTEM_MESSAGE_DIFFERS"):
        request_composition(revision=apart, suites=suites, actor=ada)


def test_a_composition_by_suites_that_do_not_say_what_a_component_waits_for_is_refused(judged, profile, ada, suites):
    vector, _ = judged(8)
    component = restate(add(vector, "0.5"), condition={"kind": "intent", "labels": ["parcel"]})
    revision = draft_revision(profile, components=[component], author=ada)
    with refused("INTENT_NOBODY_SENDS"):
        request_composition(revision=revision, suites=suites, actor=ada)


def test_the_draft_that_a_chain_ends_as_acts_where_it_was_validated(ask, profile, train_probe):
    probe = train_probe()
    job = ask(draft_for=profile, condition={"kind": "probe", "probe": "refund-intent"}, layers=[2])
    extract(job)
    validate(job.followed_by)
    draft = ProfileRevision.objects.get()
    assert draft.components.get().condition == probe.condition
    assert [named["name"] for named in draft.probes] == ["refund-intent"]
    assert evidence_of(draft) == job.followed_by.evaluation


def test_metrics_from_other_places_are_not_subtracted(ask, suites, base_model, model_root, ada):
    write_model_folder(model_root / "moved-recipe", vocab_size=514)
    moved = register_base_model("harbor-support", source="moved-recipe", actor=ada)
    evaluations = []
    for seed, of, recipe in ((8, base_model, {}), (9, moved, {"condition": BILLING})):
        vector = extract(ask(base=of, **recipe), seed=seed)
        evaluations.append(validate(request_validation(vector=vector, suites=suites, actor=ada)))
    comparison = evaluations[1].vector.comparison
    assert (comparison.evidence, "under other conditions" in comparison.evidence_missing) == (None, True)


@pytest.mark.parametrize("condition", [{}, {"kind": "harmful"}, {"kind": "moon"}])
def test_the_database_keeps_a_known_condition_of_a_vector(judged, condition):
    _, evaluation = judged(8)
    told = pytest.raises(IntegrityError, match="evaluation_condition_is_of_its_vector")
    with unguarded("registry_evaluation"), told, transaction.atomic():
        Evaluation.objects.filter(pk=evaluation.pk).update(condition=condition)
