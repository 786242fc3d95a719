"""How much there is to do in a search, foreseen from its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from steernode.engine.access.work import Planned
from steernode.engine.measuring.margins import MarginItem
from steernode.engine.measuring.metrics import EvalItems
from steernode.engine.searching.recipe import SweepRecipe
from steernode.engine.searching.screen import plan_rounds
from steernode.files.suites import SuiteFile


def plan_search(stage: str, recipe: SweepRecipe, n_layers: int, pairs: int, suites: Mapping[str, SuiteFile]) -> list[Planned]:
    """Of `sweep`: the texts of every round of the screen, and the most replies that there can be, each of those to tickets read once."""
    layers, alphas, items = len(recipe.resolve_layers(n_layers)), len(recipe.steered_alphas()), EvalItems.of(suites, "select")
    rounds = plan_rounds(layers, cast("Sequence[MarginItem]", range(pairs)), recipe) if recipe.screen == "margins" else []
    finalists = layers if recipe.screen == "none" else min(recipe.finalists, layers)
    cells = 1 + finalists * (alphas + (2 if recipe.refine else 0))
    screened = sum((1 + each.layers * alphas) * 2 * len(each.items) for each in rounds)
    return [Planned(stage, "texts", screened + cells * len(items.behaviour)), Planned(stage, "replies", cells * len(items.all))]
