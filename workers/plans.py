"""How much there is to do in each stage of an extraction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steernode.engine.access.models import LoadedModel
from steernode.engine.access.work import Planned
from steernode.engine.reading.diagnostics import SAMPLE_PAIRS
from steernode.engine.searching.plans import plan_search
from steernode.engine.searching.recipe import SweepRecipe
from steernode.engine.searching.trace import GROUPS
from steernode.files.contrast import ContrastPair
from steernode.files.suites import SuiteFile
from workers.extraction import MAX_SCREENED_PAIRS, TRACED_PAIRS


def plan_extraction(
    loaded: LoadedModel, recipe: SweepRecipe, parts: Mapping[str, Sequence[ContrastPair]], suites: Mapping[str, SuiteFile]
) -> list[Planned]:
    asked = min(len(parts["select"]), MAX_SCREENED_PAIRS)
    screened = asked if recipe.screen == "margins" else 0
    traced = min(len(parts["select"]), TRACED_PAIRS)
    return [
        Planned("diagnosing", "pairs", min(sum(map(len, parts.values())), SAMPLE_PAIRS)),
        Planned("asking under both instructions", "replies", 2 * asked),
        Planned("extracting", "pairs", len(parts["extract"])),
        *plan_search("searching", recipe, loaded.n_layers, screened, suites),
        Planned("tracing", "replies", 2 * traced),
        Planned("tracing", "texts", traced * loaded.n_layers * len(GROUPS)),
    ]
