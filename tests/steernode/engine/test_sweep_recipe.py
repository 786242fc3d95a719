"""Recipes of a sweep: refused by name, kept by their documents, and over the layers that their own gates allow."""

from __future__ import annotations

import pytest

from steernode.engine.searching.recipe import SweepRecipe
from steernode.errors import EngineError, SteerError

DEPTH = {"metric": "layer_depth", "kind": "below", "threshold": "0.5"}
FACTS = {"metric": "facts", "kind": "min", "threshold": "0.9"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"alphas": ["0.5", "1"]}, "ALPHA_GRID"),
        ({"alphas": ["0"]}, "ALPHA_GRID"),
        ({"alphas": "some"}, "ALPHA_GRID"),
        ({"alphas": "auto", "operator": "ablate", "unit": "absolute"}, "ALPHA_GRID"),
        ({"alphas": ["0", "0.5", "0.50"]}, "ALPHA_GRID"),
        ({"alphas": ["0", "NaN"]}, "ALPHA_FORMAT"),
        ({"alphas": ["0", "1e309"]}, "ALPHA_FORMAT"),
        ({"alphas": ["0", "1001"]}, "ALPHA_RANGE"),
        ({"unit": "volts"}, "UNIT_UNKNOWN"),
        ({"scope": "somewhere"}, "SCOPE_UNKNOWN"),
        ({"operator": "charm"}, "OPERATOR_UNKNOWN"),
        ({"operator": "ablate"}, "ALPHA_GRID"),
        ({"operator": "clamp", "unit": "absolute"}, "RECIPE_INVALID"),
        ({"layers": []}, "LAYERS_EMPTY"),
        ({"screen": "guess"}, "RECIPE_INVALID"),
        ({"screen_kl": "0"}, "RECIPE_INVALID"),
        ({"screen_kl": "much"}, "ALPHA_FORMAT"),
        ({"screen_items": 0}, "RECIPE_INVALID"),
        ({"finalists": 0}, "RECIPE_INVALID"),
        ({"charm": 1}, "RECIPE_INVALID"),
        ({"gates": [{"metric": "charm"}]}, "GATE_INVALID"),
    ],
)
def test_a_recipe_that_cannot_be_cooked_is_refused(change: dict, code: str) -> None:
    with pytest.raises(SteerError) as refused:
        SweepRecipe.from_document({**SweepRecipe().to_document(), **change})
    assert refused.value.code == code


def test_a_recipe_survives_its_document() -> None:
    recipe = SweepRecipe(alphas=("0", "0.5", "1"), screen_items=2, finalists=1, max_new_tokens=4, gates=(FACTS,))
    assert SweepRecipe.from_document(recipe.to_document()).to_document() == recipe.to_document()


@pytest.mark.parametrize(
    ("recipe", "layers"),
    [
        (SweepRecipe(), range(5)),
        (SweepRecipe(layers=(5, 1)), [1, 5]),
        (SweepRecipe(gates=(DEPTH, FACTS)), range(3)),
        (SweepRecipe(gates=(FACTS,)), range(6)),
    ],
)
def test_a_search_goes_over_the_layers_that_its_own_gates_allow(recipe: SweepRecipe, layers: range) -> None:
    assert recipe.resolve_layers(6) == tuple(layers)


def test_gates_that_refuse_every_layer_leave_nothing_to_search() -> None:
    with pytest.raises(EngineError) as refused:
        SweepRecipe(gates=(DEPTH | {"threshold": "0"},)).resolve_layers(6)
    assert (refused.value.code, refused.value.item) == ("LAYERS_EMPTY", "gates")
