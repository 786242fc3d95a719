"""Where a candidate acts: on which items its condition holds, as it would when the item came as a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from steernode.engine.access.encoding import encode_prompts
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.conditions import decide
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
    there the condition is taken to hold, whatever it looks at, and so it is where an item does not say its intent.
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
        facts = [RequestFacts(attributes={"locale": item.locale, "product": item.product}) for item in items]
        found = np.array([condition.holds(fact) for fact in facts], np.bool_)
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
    """The items without the tickets on which nothing is done, and where the candidate acts on what is left.

    A ticket that is answered as ever says nothing of the behaviour. Everything else stays: that it is untouched is to be shown.
    Raises: EngineError CONDITION_NEVER.
    """
    kept = tuple(item for item, is_acted_on in zip(items.behaviour, acts, strict=False) if is_acted_on)
    if not kept:
        problem = "the condition holds on none of the behaviour items, so nothing is steered; add items that meet it"
        raise EngineError("CONDITION_NEVER", problem, "condition")
    rest = acts[len(items.behaviour) :]
    return EvalItems(kept, items.facts, items.refusals, items.capability), np.concatenate([np.ones(len(kept), np.bool_), rest])
