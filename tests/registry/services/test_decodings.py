"""Decoding on record: a recipe states how the replies of its validation are chosen, and the evidence is of that."""

import pytest

from registry.errors import InvalidInput
from registry.models import Job
from registry.services.compositions import request_composition
from registry.services.job_requests import request_extraction, request_validation
from registry.services.profiles import draft_revision
from steernode.errors import SteerError
from steernode.records.recipe import ValidationRecipe
from tests.support.components import add
from tests.support.unopened import fresh_suites
from tests.support.working import extract

DRAWN = {"temperature": "0.7", "top_p": "0.95", "seeds": [1, 2]}


@pytest.fixture
def ask_extraction(base_model, contrast_set, suites, ada):
    def ask(**recipe) -> Job:
        recipe = {"vector": "drawn", **recipe}
        return request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe=recipe, actor=ada)

    return ask


@pytest.mark.parametrize("decoding", ["hot", None, {"temperature": "0.7"}, {**DRAWN, "temperature": 0.7}, {**DRAWN, "seeds": []}])
def test_what_is_no_decoding_is_refused_before_a_job_is_queued(ask_extraction, decoding):
    with pytest.raises(SteerError, check=lambda error: error.code == "RECIPE_DECODING"):
        ask_extraction(decoding=decoding)
    assert not Job.objects.exists()


def test_a_validation_draws_as_the_recipe_of_its_vector_says_unless_told_otherwise(ask_extraction, suites, ada):
    assert ask_extraction().recipe["decoding"] == "greedy"
    one, other = (extract(ask_extraction(vector=f"drawn-{seed}", decoding=DRAWN, max_new_tokens=seed), seed=seed) for seed in (8, 9))
    assert request_validation(vector=one, suites=suites, actor=ada).recipe["decoding"] == DRAWN
    assert request_validation(vector=other, suites=fresh_suites(suites, ada), actor=ada, decoding="greedy").recipe["decoding"] == "greedy"


def test_a_recipe_from_before_is_greedy():
    old = {"alpha": "0.5", "unit": "mean_difference", "gates": "default", "max_new_tokens": 64}
    assert ValidationRecipe.from_document(old).decoding == "greedy"


def test_a_composition_draws_as_the_parts_did_and_asks_where_they_differ(ada, profile, vector, evaluate, brevity, component, suites):
    evaluate(vector)
    revision = draft_revision(profile, components=[component, add(brevity, "0.3")], author=ada)
    validation = brevity.evaluations.get().job
    Job.objects.filter(pk=validation.pk).update(recipe={**validation.recipe, "decoding": DRAWN})
    with pytest.raises(InvalidInput, check=lambda error: error.code == "DECODING_DIFFERS"):
        request_composition(revision=revision, suites=suites, actor=ada)
    assert request_composition(revision=revision, suites=suites, actor=ada, decoding=DRAWN).recipe["decoding"] == DRAWN
