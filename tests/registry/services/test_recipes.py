"""Recipes are checked whole before any worker time is spent."""

from decimal import Decimal

import pytest

from registry.models import BaseModel, Job
from registry.services.compositions import request_composition
from registry.services.evals import seal_eval_suite
from registry.services.job_requests import request_extraction, request_validation
from registry.services.recipes import ask_again, parse_extraction_recipe
from registry.services.vectors import import_vector
from steernode.errors import SteerError
from steernode.gates import load_gates, shipped_set
from tests.support.files import lines, vector_file
from tests.support.unopened import fresh_suites

EXPECTED = {"safety": {"refuse": True}, "capability": {"contains": ["4"]}}
BAD_RECIPES = [
    ({}, "RECIPE_VECTOR"),
    ({"vector": ""}, "RECIPE_VECTOR"),
    ({"vector": "a/b"}, "RECIPE_VECTOR"),
    ({"vector": "v" * 101}, "RECIPE_VECTOR"),
    ({"surprise": 1}, "RECIPE_UNKNOWN_FIELD"),
    ({"layers": []}, "RECIPE_LAYERS"),
    ({"layers": "some"}, "RECIPE_LAYERS"),
    ({"layers": {}}, "RECIPE_LAYERS"),
    ({"layers": [-1]}, "LAYER_RANGE"),
    ({"layers": [4]}, "LAYER_RANGE"),
    ({"layers": [True]}, "LAYER_RANGE"),
    ({"layers": ["1 "]}, "LAYER_RANGE"),
    ({"layers": [1.0]}, "LAYER_RANGE"),
    ({"alphas": ["0", "NaN"]}, "ALPHA_FORMAT"),
    ({"alphas": ["0", "1e309"]}, "ALPHA_FORMAT"),
    ({"alphas": ["0", 1.5]}, "ALPHA_FORMAT"),
    ({"alphas": ["0", True]}, "ALPHA_FORMAT"),
    ({"alphas": ["0", "0,5"]}, "ALPHA_FORMAT"),
    ({"alphas": ["0", "-0"]}, "ALPHA_FORMAT"),
    ({"alphas": ["0", "0.1234567"]}, "ALPHA_FORMAT"),
    ({"alphas": ["0", "1001"]}, "ALPHA_RANGE"),
    ({"alphas": ["0.5", "1"]}, "ALPHA_GRID"),
    ({"alphas": ["0"]}, "ALPHA_GRID"),
    ({"alphas": "0"}, "ALPHA_GRID"),
    ({"trace": "yes"}, "RECIPE_TRACE"),
    ({"method": "magic"}, "RECIPE_METHOD"),
    ({"method": ["mean_difference"]}, "RECIPE_METHOD"),
    ({"site": "cloud"}, "RECIPE_SITE"),
    ({"unit": "furlong"}, "RECIPE_UNIT"),
    ({"dtype": "F64"}, "RECIPE_DTYPE"),
    ({"model_dtype": "int4"}, "RECIPE_MODEL_DTYPE"),
    ({"model_dtype": None}, "RECIPE_MODEL_DTYPE"),
    ({"system_message": None}, "RECIPE_SYSTEM_MESSAGE"),
    ({"system_message": ["Be warm."]}, "RECIPE_SYSTEM_MESSAGE"),
    ({"system_message": " \n"}, "RECIPE_SYSTEM_MESSAGE"),
    ({"system_message": "Be\x00warm."}, "RECIPE_SYSTEM_MESSAGE"),
    ({"system_message": "w" * 8001}, "RECIPE_SYSTEM_MESSAGE"),
    ({"condition": "billing"}, "RECIPE_CONDITION"),
    ({"condition": []}, "RECIPE_CONDITION"),
    ({"condition": {}}, "RECIPE_CONDITION"),
    ({"condition": {"kind": "moon"}}, "RECIPE_CONDITION"),
    ({"condition": {"kind": "harmful"}}, "RECIPE_CONDITION"),
    ({"condition": {"kind": "intent", "labels": []}}, "RECIPE_CONDITION"),
    ({"condition": {"kind": "intent", "labels": [f"l{number}" for number in range(65)]}}, "RECIPE_CONDITION"),
    ({"condition": {"kind": "attribute", "name": "locale", "values": ["en-US "]}}, "SPELLING"),
    ({"condition": {"kind": "probe", "probe": "nobody"}}, "PROBE_NOT_FOUND"),
    ({"condition": {"kind": "probe", "probe": 7}}, "RECIPE_CONDITION"),
    ({"condition": {"kind": "probe", "vector": "nobody@1"}}, "VECTOR_NOT_FOUND"),
    ({"condition": {"kind": "intent", "labels": ["billing"]}}, "INTENT_NOBODY_SENDS"),
    ({"condition": {"kind": "attribute", "name": "locale", "values": ["de-DE"]}}, "CONDITION_NEVER"),
    ({"seed": 0}, "RECIPE_UNKNOWN_FIELD"),
    ({"max_new_tokens": 0}, "RECIPE_MAX_NEW_TOKENS"),
    ({"gates": []}, "RECIPE_GATES"),
    ({"gates": "none"}, "RECIPE_GATES"),
    ({"gates": [{"metric": "facts"}]}, "RECIPE_GATES"),
    ({"gates": [{"metric": "facts", "kind": "min", "threshold": "low"}]}, "ALPHA_FORMAT"),
]


def test_a_bad_recipe_is_refused_by_its_code(base_model, contrast_set, suites, ada):
    for change, code in BAD_RECIPES:
        recipe = {"vector": "empathy", **change} if change else {}
        with pytest.raises(SteerError) as refusal:
            request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe=recipe, actor=ada)
        assert refusal.value.code == code, change
    assert not Job.objects.exists()


def test_defaults_are_written_down(base_model, contrast_set, suites, ada):
    job = request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe={"vector": "empathy"}, actor=ada)
    assert job.recipe["layers"] == [0, 1, 2, 3]
    assert job.recipe["alphas"] == "auto"
    assert job.recipe["gates"] == list(load_gates("default"))
    assert job.recipe["gate_set"] == shipped_set("default").named


DEPTH = {"metric": "layer_depth", "kind": "below", "threshold": "0.5"}
FACTS = {"metric": "facts", "kind": "min", "threshold": "0.9"}


@pytest.mark.parametrize(
    ("recipe", "layers"),
    [
        ({}, range(8)),
        ({"layers": "candidates"}, range(8)),
        ({"layers": "all"}, range(10)),
        ({"layers": [9, 2, 2]}, [2, 9]),
        ({"gates": [DEPTH, FACTS]}, range(5)),
        ({"gates": [DEPTH], "layers": "all"}, range(10)),
        ({"gates": [FACTS]}, range(10)),
        ({"site": "embedding"}, [0]),
    ],
)
def test_layers_are_those_that_the_gates_of_the_recipe_may_pass(recipe, layers):
    ten = BaseModel(n_layers=10, manifest={})
    parsed = parse_extraction_recipe({"vector": "empathy", **recipe}, ten)
    assert parsed.layers == tuple(layers)
    asked_again = parse_extraction_recipe(ask_again(parsed, ten), ten)
    assert asked_again == parsed


def test_gates_that_leave_no_layer_to_search_are_refused():
    recipe = {"vector": "empathy", "gates": [DEPTH | {"threshold": "0"}]}
    with pytest.raises(SteerError, check=lambda error: error.code == "RECIPE_LAYERS"):
        parse_extraction_recipe(recipe, BaseModel(n_layers=10, manifest={}))
    assert parse_extraction_recipe(recipe | {"layers": [3]}, BaseModel(n_layers=10, manifest={})).layers == (3,)


def test_a_job_needs_one_suite_of_each_kind(base_model, contrast_set, suites, ada):
    for some in (suites[:2], []):
        with pytest.raises(SteerError, check=lambda error: error.code == "SUITES_MISSING"):
            request_extraction(base_model=base_model, contrast_set=contrast_set, suites=some, recipe={"vector": "v"}, actor=ada)


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        (["safety"], "SUITES_OF_ONE_KIND"),
        (["capability"] * 2, "SUITES_OF_ONE_KIND"),
        (["fluency"], "SUITE_NOT_RUN"),
        (["capability"], None),
    ],
)
def test_every_suite_that_a_job_names_is_run_or_refused(base_model, contrast_set, suites, combined, ada, kinds, code):
    """Of two suites of a kind one was run, and both stood on record as having judged."""
    fresh = import_vector("fresh", data=vector_file(base_model.fingerprint, contrast_set.digest, seed=9), author=ada)
    item = {"id": "x", "split": "test", "messages": [{"role": "user", "content": "Add 2 and 2."}], "locale": "en-US", "product": "billing"}
    extra = [
        seal_eval_suite(
            f"extra-{number}", kind=kind, data=lines([{**item, "id": f"x{number}", "expect": EXPECTED.get(kind, {})}]), author=ada
        )
        for number, kind in enumerate(kinds)
    ]
    asked = [
        lambda: request_extraction(
            base_model=base_model, contrast_set=contrast_set, suites=[*suites, *extra], recipe={"vector": "v"}, actor=ada
        ),
        lambda: request_validation(vector=fresh, suites=[*fresh_suites(suites, ada), *extra], actor=ada, alpha=Decimal("0.5")),
        lambda: request_composition(revision=combined, suites=[*suites, *extra], actor=ada),
    ]
    for ask in asked:
        if code is None:
            ask()
            continue
        with pytest.raises(SteerError, check=lambda error: error.code == code):
            ask()


def test_the_test_split_opens_once(evaluation, vector, suites, ada):
    with pytest.raises(SteerError, check=lambda error: error.code == "TEST_SPLIT_OPENED"):
        request_validation(vector=vector, suites=suites, actor=ada)


def test_a_vector_without_a_proposal_needs_a_coefficient(vector, suites, ada):
    with pytest.raises(SteerError, check=lambda error: error.code == "ALPHA_MISSING"):
        request_validation(vector=vector, suites=suites, actor=ada)


def of_dtype(base_model: BaseModel, dtype: str) -> BaseModel:
    base_model.manifest = {**base_model.manifest, "dtype": dtype}
    return base_model


def test_a_recipe_names_what_the_model_is_run_in(base_model):
    """By name, so that it does not depend on the worker: a bfloat16 model stays one, unless its author says otherwise."""
    bf16 = of_dtype(base_model, "bfloat16")
    assert parse_extraction_recipe({"vector": "v"}, bf16).model_dtype == "bfloat16"
    assert parse_extraction_recipe({"vector": "v", "model_dtype": "float32"}, bf16).model_dtype == "float32"
    assert parse_extraction_recipe({"vector": "v"}, of_dtype(base_model, "float16")).model_dtype == "float32"
