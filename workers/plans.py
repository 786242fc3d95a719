"""How much there is to do in each stage of an extraction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steernode.engine.access.models import LoadedModel
from steernode.engine.access.work import Planned
from steernode.engine.reading.diagnostics import SAMPLE_PAIRS
from steernode.engine.searching import stages
from steernode.engine.searching.plans import plan_search
from steernode.engine.searching.recipe import SweepRecipe
from steernode.engine.searching.trace import GROUPS
from steernode.files.contrast import ContrastPair
from steernode.files.suites import SuiteFile
from workers.extraction import TRACED_PAIRS, count_asked


def plan_extraction(
    loaded: LoadedModel,
    recipe: SweepRecipe,
    parts: Mapping[str, Sequence[ContrastPair]],
    suites: Mapping[str, SuiteFile],
    *,
    is_traced: bool,
) -> list[Planned]:
    asked = min(len(parts["select"]), count_asked(recipe))
    screened = asked if recipe.screen == "margins" else 0
    traced = min(len(parts["select"]), TRACED_PAIRS) if is_traced else 0
    return [
        Planned(stages.PAIRS, "pairs", min(sum(map(len, parts.values())), SAMPLE_PAIRS)),
        Planned(stages.SIDES, "replies", 2 * asked),
        Planned(stages.DIRECTIONS, "pairs", len(parts["extract"])),
        *plan_search(recipe, loaded.n_layers, screened, suites),
        Planned(stages.TRACE, "replies", 2 * traced),
        Planned(stages.TRACE, "texts", traced * loaded.n_layers * len(GROUPS)),
    ]
