"""Where a candidate acts: on which items its condition holds, as it would when the item came as a request.

It is judged on those alone. What it does not touch is answered as ever, by construction, so that there is nothing to measure: such an
item can neither gain nor lose, and counted as one that held it would show bounds of which nothing was asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from steernode.engine.access.encoding import encode_prompts
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.conditions import decide
from steernode.engine.judging.comparison import describe_nothing
from steernode.engine.measuring.metrics import EvalItems
from steernode.engine.reading.probes import Probe
from steernode.errors import EngineError
from steernode.files.suites import SuiteItem
from steernode.snapshot.conditions import AttributeCondition, ProbeCondition, RequestFacts

if TYPE_CHECKING:
    from steernode.engine.judging.candidate import Candidate

Rows = npt.NDArray[np.bool_]


def find_acting(loaded: LoadedModel, candidate: Candidate, items: Sequence[SuiteItem]) -> Rows:
    """(items,): whether the condition holds. Without one it does.

    An item's intent, locale and product are what a gateway would say of it. Of an item that may be refused nothing is taken on trust:
    there the condition is taken to hold, whatever it looks at, and so it is where an item does not say what the condition asks.
    Raises: the codes of `decide`.
    """
    condition = candidate.condition
    if condition is None:
        return np.ones(len(items), np.bool_)
    if isinstance(condition, ProbeCondition):
        probe = Probe.from_condition(condition, candidate.probe_direction)
        holds = decide(loaded, [probe], encode_prompts(loaded, [item.messages for item in items]))
        found: Rows = holds[:, 0].numpy()
    elif isinstance(condition, AttributeCondition):
        said = [{"locale": item.locale, "product": item.product}.get(condition.name, "") for item in items]
        found = np.array([not value or condition.holds(RequestFacts(attributes={condition.name: value})) for value in said], np.bool_)
    else:
        found = np.array([not item.intent or condition.holds(RequestFacts(frozenset({item.intent}))) for item in items], np.bool_)
    return found | np.array(["refuse" in item.expect for item in items], np.bool_)


def count_acting(items: EvalItems, acts: Rows) -> dict[str, dict[str, int]]:
    """By kind of item: how many there are, and on how many the candidate acts."""
    ends = np.cumsum(list(items.counts.values()))
    return {
        name: {"items": len(part), "acts_on": int(part.sum())} for name, part in zip(items.counts, np.split(acts, ends[:-1]), strict=True)
    }


def keep_acting(items: EvalItems, acts: Rows) -> tuple[EvalItems, Rows]:
    """The items on which the candidate acts, and where it does of these. Raises: EngineError CONDITION_NEVER where none is a ticket."""
    ends = np.cumsum([len(part) for part in items.parts])
    parts = zip(items.parts, np.split(acts, ends[:-1]), strict=True)
    behaviour, facts, refusals, capability = (tuple(compress(part, rows)) for part, rows in parts)
    if not behaviour:
        problem = "the condition holds on none of the behaviour items, so nothing is steered; add items that meet it"
        raise EngineError("CONDITION_NEVER", problem, "condition")
    return EvalItems(behaviour, facts, refusals, capability), acts[acts]


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
