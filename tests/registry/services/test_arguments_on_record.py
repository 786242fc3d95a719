"""Template arguments on record: stated once, in the recipe, and from there in the vector, the revision, its evidence and the snapshot."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from registry.errors import InvalidInput
from registry.models import Component, Job
from registry.reads.documents import revision_document
from registry.reads.steering import head_snapshot
from registry.services.approvals import approve_revision
from registry.services.compositions import request_composition
from registry.services.flags import set_flag
from registry.services.job_requests import request_extraction, request_validation
from registry.services.profiles import draft_revision, submit_revision
from registry.services.vectors import import_vector
from steernode.errors import SteerError
from steernode.snapshot.document import parse_document, parse_snapshot
from tests.support.components import add
from tests.support.files import vector_file
from tests.support.unopened import fresh_suites

OFF = {"enable_thinking": False}
BAD = [
    {"template_arguments": ["enable_thinking"]},
    {"template_arguments": {"messages": "x"}},
    {"template_arguments": {"enable_thinking": 0.5}},
    {"template_arguments": {"enable_thinking": None}},
    {"template_arguments": {"strftime_now": "today"}},
]


@pytest.fixture
def ask_extraction(base_model, contrast_set, suites, ada):
    def ask(**recipe) -> Job:
        recipe = {"vector": "empathy", **recipe}
        return request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe=recipe, actor=ada)

    return ask


@pytest.fixture
def thoughtless(ada, base_model, contrast_set):
    """A vector that was read while thinking was off."""
    data = vector_file(base_model.fingerprint, contrast_set.digest, seed=9, template_arguments=OFF)
    return import_vector("thoughtless", data=data, author=ada)


@pytest.mark.parametrize("recipe", BAD)
def test_what_is_no_argument_is_refused_before_a_job_is_queued(ask_extraction, recipe):
    with pytest.raises(SteerError, check=lambda error: error.code == "RECIPE_TEMPLATE_ARGUMENTS"):
        ask_extraction(**recipe)
    assert not Job.objects.exists()


def test_a_recipe_keeps_them_by_name(ask_extraction):
    assert ask_extraction(template_arguments={"z": 1, "date_string": "26 Jul 2024"}).recipe["template_arguments"] == {
        "date_string": "26 Jul 2024",
        "z": 1,
    }


@pytest.fixture
def clocked(base_model, model_root):
    """The folder of the base model, which others use too, with a template that writes the year."""
    template = Path(model_root) / base_model.source / "chat_template.jinja"
    own = template.read_bytes()
    template.write_bytes(b"{{ strftime_now('%Y') }}" + own)
    yield base_model
    template.write_bytes(own)


def test_a_template_that_writes_the_date_needs_one(clocked, ask_extraction):
    with pytest.raises(InvalidInput, check=lambda error: error.code == "TEMPLATE_CLOCK"):
        ask_extraction()
    assert not Job.objects.exists()
    assert ask_extraction(template_arguments={"strftime_now": "2026-11-30"}).recipe["template_arguments"] == {"strftime_now": "2026-11-30"}


def test_a_validation_asks_as_the_vector_was_read(thoughtless, vector, suites, ada):
    assert thoughtless.template_arguments == OFF
    for each, arguments, items in ((thoughtless, OFF, suites), (vector, {}, fresh_suites(suites, ada))):
        assert request_validation(vector=each, suites=items, actor=ada, alpha=Decimal("0.5")).recipe["template_arguments"] == arguments


def test_a_composition_asks_so_too(thoughtless, ada, profile, evaluate, suites):
    evaluate(thoughtless)
    component = add(thoughtless, "0.5")
    component.scope = "all"
    revision = draft_revision(profile, components=[component], author=ada)
    assert request_composition(revision=revision, suites=suites, actor=ada).recipe["template_arguments"] == OFF


def test_a_revision_asks_in_one_way(thoughtless, component, profile, ada):
    with pytest.raises(InvalidInput, check=lambda error: error.code == "TEMPLATE_ARGUMENTS_DIFFER"):
        draft_revision(profile, components=[component, add(thoughtless, "0.5")], author=ada)
    # False is not 0 to a template.
    data = vector_file(
        thoughtless.base_model.fingerprint, thoughtless.contrast_set.digest, seed=10, template_arguments={"enable_thinking": 0}
    )
    numbered = import_vector("numbered", data=data, author=ada)
    with pytest.raises(InvalidInput, check=lambda error: error.code == "TEMPLATE_ARGUMENTS_DIFFER"):
        draft_revision(profile, components=[add(numbered, "0.3"), add(thoughtless, "0.3")], author=ada)
    probe = {
        "kind": "probe", "vector": thoughtless, "read_position": "last_prompt_token", "scale": "1", "bias": "0", "threshold": "0",
    }  # fmt: skip
    with pytest.raises(InvalidInput, check=lambda error: error.code == "TEMPLATE_ARGUMENTS_DIFFER"):
        draft_revision(profile, components=[component], safety_override=[probe], author=ada)


def test_what_is_approved_and_served_says_them(thoughtless, profile, evaluate, ada, grace, oscar, production, harbor):
    evaluation = evaluate(thoughtless)
    component: Component = add(thoughtless, "0.5")
    draft = draft_revision(profile, components=[component], author=ada)
    assert revision_document(draft)["template_arguments"] == OFF
    revision = submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    digests = {"revision_digest": revision.digest, "evidence_digest": evaluation.digest}
    approved = approve_revision(revision.pk, reviewer=grace, comment="fine", **digests)
    set_flag(production, harbor, revision=approved, enabled=True, alpha_scale=Decimal(1), reason="go", actor=oscar)
    snapshot = parse_snapshot(parse_document(head_snapshot(production).payload))
    assert dict(snapshot.profiles[0].template_arguments) == OFF
    assert "template_arguments" in snapshot.capabilities


def test_a_snapshot_without_them_says_nothing_of_them(production, flag_on):
    document = json.loads(head_snapshot(production).payload)
    assert "template_arguments" not in document["profiles"][0]
    assert "template_arguments" not in document["capabilities"]
