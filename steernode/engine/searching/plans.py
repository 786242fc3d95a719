"""How much there is to do in a search, foreseen from its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from steernode.engine.access.work import Planned
from steernode.engine.measuring.items import EvalItems
from steernode.engine.measuring.margins import MarginItem
from steernode.engine.searching import stages
from steernode.engine.searching.doses import KL_TARGETS, NEUTRAL_PROMPTS
from steernode.engine.searching.recipe import SweepRecipe
from steernode.engine.searching.screen import plan_rounds
from steernode.files.suites import SuiteFile

# As often is a layer's dose looked at, mostly.
_LOOKS = 3


def plan_search(recipe: SweepRecipe, n_layers: int, pairs: int, suites: Mapping[str, SuiteFile]) -> list[Planned]:
    """Of `sweep`: where doses are found, the texts that takes; the texts of every round of the screen; and the most replies that there
    can be, each of those to tickets read once."""
    layers, items = len(recipe.resolve_layers(n_layers)), EvalItems.of(suites, "select")
    doses = len(KL_TARGETS) if recipe.is_auto else len(recipe.steered_alphas())
    rounds = plan_rounds(layers, cast("Sequence[MarginItem]", range(pairs)), recipe) if recipe.screen == "margins" else []
    finalists = layers if recipe.screen == "none" else min(recipe.finalists, layers)
    cells = 1 + finalists * (doses + (2 if recipe.refine else 0))
    neutral = min(NEUTRAL_PROMPTS, len(items.facts) + len(items.refusals)) if recipe.is_auto else 0
    return [
        Planned(stages.DOSES, "replies", neutral),
        Planned(stages.DOSES, "texts", neutral * layers * _LOOKS),
        Planned(stages.SCREENING, "texts", sum((1 + each.layers * doses) * 2 * len(each.items) for each in rounds)),
        Planned(stages.REPLIES, "replies", cells * len(items.all)),
        Planned(stages.REPLIES, "texts", cells * len(items.behaviour)),
    ]
