"""Where a candidate acts: on which items its condition holds, as it would when the item came as a request.

It is judged on those alone. What it does not touch is answered as ever, by construction, so that there is nothing to measure: such an
item can neither gain nor lose, and counted as one that held it would show bounds of which nothing was asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from steernode.engine.access.encoding import encode_prompts
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.conditions import decide
from steernode.engine.judging.candidate import Candidate, read_probe_direction
from steernode.engine.judging.comparison import describe_nothing
from steernode.engine.measuring.items import EvalItems, serve_items
from steernode.engine.reading.probes import Probe
from steernode.errors import EngineError
from steernode.files.suites import SuiteFile, SuiteItem
from steernode.power import may_meet
from steernode.snapshot.conditions import Condition, ProbeCondition

Rows = npt.NDArray[np.bool_]


def find_acting(loaded: LoadedModel, candidate: Candidate, items: Sequence[SuiteItem]) -> Rows:
    """(items,): whether the condition holds. Without one it does.

    What items say decides as `power.may_meet` has it, and a probe by their prompts; of an item that may be refused it is taken to hold.
    Raises: the codes of `decide`.
    """
    direction = candidate.probe_direction if isinstance(candidate.condition, ProbeCondition) else None
    return _find_met(loaded, candidate.condition, direction, items)


def _find_met(loaded: LoadedModel, condition: Condition | None, probe_direction: Tensor | None, items: Sequence[SuiteItem]) -> Rows:
    if not isinstance(condition, ProbeCondition) or probe_direction is None:
        return np.array([may_meet(condition, item) for item in items], np.bool_)
    probe = Probe.from_condition(condition, probe_direction)
    fires: Rows = decide(loaded, [probe], encode_prompts(loaded, [item.messages for item in items]))[:, 0].numpy()
    return fires | np.array(["refuse" in item.expect for item in items], np.bool_)


def serve_suites(
    loaded: LoadedModel, suites: Mapping[str, SuiteFile], system_message: str, condition: Condition | None, probe_file: bytes | None = None
) -> dict[str, SuiteFile]:
    """The suites as a search reads them: every item under this system message that has none of its own, and of the tickets and facts of the
    select split those on which the condition holds, by the vector file of its probe. All else is searched as if it held, and so are
    the facts where it holds on none.

    Raises: EngineError CONDITION_NEVER if it holds on no ticket; the codes of `decide`.
    """
    served = {kind: replace(suite, items=serve_items(loaded, suite.items, system_message)) for kind, suite in suites.items()}
    if condition is None:
        return served
    direction = None if probe_file is None else read_probe_direction(probe_file)
    tickets, facts = (_keep_met(loaded, served[kind], condition, direction) for kind in ("behaviour", "factual"))
    if not tickets.split("select"):
        problem = "the condition holds on no ticket of the select split, so nothing could be searched on; add tickets that meet it"
        raise EngineError("CONDITION_NEVER", problem, "condition")
    return served | {"behaviour": tickets} | ({"factual": facts} if facts.split("select") else {})


def _keep_met(loaded: LoadedModel, suite: SuiteFile, condition: Condition, probe_direction: Tensor | None) -> SuiteFile:
    """The suite without the items of the select split on which the condition does not hold."""
    select = suite.split("select")
    kept = compress(select, _find_met(loaded, condition, probe_direction, select))
    return replace(suite, items=(*kept, *(item for item in suite.items if item.split != "select")))


def by_component(acts: Rows | None, items: int, components: int) -> Rows:
    """(items, components): where each acts, of what says (items,) where all do, or None where they do everywhere."""
    if acts is None:
        return np.ones((items, components), np.bool_)
    return acts if acts.ndim > 1 else np.repeat(acts[:, None], components, axis=1)


def any_acts(acts: Rows) -> Rows:
    """(items,): where any of several acts, by (items, components)."""
    found: Rows = np.logical_or.reduce(acts, axis=1)
    return found


def count_acting(items: EvalItems, acts: Rows) -> dict[str, dict[str, int]]:
    """By kind of item: how many there are, and on how many the candidate acts, or any of several by (items, candidates)."""
    acts = acts if acts.ndim == 1 else any_acts(acts)
    ends = np.cumsum(list(items.counts.values()))
    return {
        name: {"items": len(part), "acts_on": int(part.sum())} for name, part in zip(items.counts, np.split(acts, ends[:-1]), strict=True)
    }


def keep_acting(items: EvalItems, acts: Rows) -> tuple[EvalItems, Rows]:
    """The items on which the candidate acts, or any of several does, and where of these it does, or each of them.

    Raises: EngineError CONDITION_NEVER where none is a ticket.
    """
    is_acted_on = acts if acts.ndim == 1 else any_acts(acts)
    ends = np.cumsum([len(part) for part in items.parts])
    parts = zip(items.parts, np.split(is_acted_on, ends[:-1]), strict=True)
    behaviour, facts, refusals, capability = (tuple(compress(part, rows)) for part, rows in parts)
    if not behaviour:
        problem = "the condition holds on none of the behaviour items, so nothing is steered; add items that meet it"
        raise EngineError("CONDITION_NEVER", problem, "condition")
    return EvalItems(behaviour, facts, refusals, capability), acts[is_acted_on]


def describe_untouched(asked: EvalItems, items: EvalItems) -> dict[str, dict[str, Any]]:
    """Of metrics for which there are items, but none on which the candidate acts: nothing, as gates read it, which decides none."""
    there, acted_on = _find_measured(asked), _find_measured(items)
    return {name: describe_nothing() for name, is_there in there.items() if is_there and not acted_on[name]}


def _find_measured(items: EvalItems) -> dict[str, bool]:
    """Of metrics of what a model knows, whether there are items for them."""
    facts, capability = bool(items.facts), bool(items.capability)
    return {
        **dict.fromkeys(("facts", "facts_net_lost", "facts_lost"), facts),
        "capability": capability,
        "capability_lost": facts or capability,
        "valid_json_lost": any("json" in item.expect for item in items.capability),
    }
