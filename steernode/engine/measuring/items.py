"""The items of a split that are answered: which measure what, how often each is, and how its reply is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from steernode.engine.access.models import LoadedModel
from steernode.engine.access.systems import put_under
from steernode.errors import EngineError
from steernode.files.conversations import Message
from steernode.files.suites import SuiteFile, SuiteItem
from steernode.records.decoding import Decoding, Sampling

T = TypeVar("T")


@dataclass(frozen=True)
class EvalItems:
    """The items of one split, by what they measure. Each stands there as often as it is answered: once, or `repeats` times in turn."""

    behaviour: tuple[SuiteItem, ...]
    facts: tuple[SuiteItem, ...]
    refusals: tuple[SuiteItem, ...]
    capability: tuple[SuiteItem, ...] = ()
    repeats: int = 1

    @classmethod
    def of(cls, suites: Mapping[str, SuiteFile], split: str, *, with_capability: bool = False) -> EvalItems:
        """`suites` by kind; a capability suite may be there and is only taken along for evidence, which judges what was lost.

        Raises: EngineError SUITE_MISSING if one of the other kinds is absent or has no item in this split.
        """
        found = {}
        for kind in ("behaviour", "factual", "safety"):
            found[kind] = suites[kind].split(split) if kind in suites else ()
            if not found[kind]:
                raise EngineError(
                    "SUITE_MISSING", f"there are no {kind} items in the {split} split; add a {kind} suite that has some", kind
                )
        capability = suites["capability"].split(split) if with_capability and "capability" in suites else ()
        return cls(found["behaviour"], found["factual"], found["safety"], capability)

    def under(self, loaded: LoadedModel, system: str) -> EvalItems:
        """All of them as they are served: under this system message, where an item has none of its own."""
        behaviour, facts, refusals, capability = (serve_items(loaded, part, system) for part in self.parts)
        return EvalItems(behaviour, facts, refusals, capability, self.repeats)

    def subset(self, behaviour: int, facts: int, refusals: int) -> EvalItems:
        """At most so many of each, spread evenly over the suite so that every part of it is seen."""
        return EvalItems(spread(self.behaviour, behaviour), spread(self.facts, facts), spread(self.refusals, refusals))

    def repeated(self, times: int) -> EvalItems:
        """All of each kind, so many times over."""
        behaviour, facts, refusals, capability = (part * times for part in self.parts)
        return EvalItems(behaviour, facts, refusals, capability, self.repeats * times)

    def repeat_rows(self, rows: npt.NDArray[np.bool_], times: int) -> npt.NDArray[np.bool_]:
        """What is said of each of `all`, of each of `repeated(times).all`."""
        ends = list(accumulate(len(part) for part in self.parts))
        return np.concatenate([part for each in np.split(rows, ends[:-1]) for part in [each] * times])

    def sampling(self, decoding: Decoding) -> list[Sampling]:
        """How the reply to each of `all` is chosen, where each item stands there once for each reply of the decoding."""
        ways = [[decoding.sample(item.id) for item in part[: len(part) // self.repeats]] for part in self.parts]
        return [way[reply] for part in ways for reply in range(self.repeats) for way in part]

    @property
    def first_rows(self) -> list[int]:
        """The rows of `all` at which each item stands for the first time."""
        starts = accumulate((len(part) for part in self.parts), initial=0)
        return [start + row for start, part in zip(starts, self.parts, strict=False) for row in range(len(part) // self.repeats)]

    @property
    def parts(self) -> tuple[tuple[SuiteItem, ...], ...]:
        """By kind, in the order of `all`."""
        return self.behaviour, self.facts, self.refusals, self.capability

    @property
    def all(self) -> tuple[SuiteItem, ...]:
        return self.behaviour + self.facts + self.refusals + self.capability

    @property
    def conversations(self) -> list[tuple[Message, ...]]:
        return [item.messages for item in self.all]

    @property
    def counts(self) -> dict[str, int]:
        counts = {"behaviour": len(self.behaviour), "facts": len(self.facts), "refusals": len(self.refusals)}
        return counts | ({"capability": len(self.capability)} if self.capability else {})


def serve_items(loaded: LoadedModel, items: Sequence[SuiteItem], system: str) -> tuple[SuiteItem, ...]:
    """The items as they are served: under this system message, where one has none of its own; an empty one changes nothing."""
    if not system:
        return tuple(items)
    systems = ["" if item.messages[0].role == "system" else system for item in items]
    asked = put_under(loaded, [item.messages for item in items], systems)
    return tuple(replace(item, messages=messages) for item, messages in zip(items, asked, strict=True))


def spread(items: Sequence[T], count: int) -> tuple[T, ...]:
    """At most so many of the items, evenly from first to last."""
    if count >= len(items):
        return tuple(items)
    return tuple(items[index * len(items) // count] for index in range(count))


def clusters_of(items: Sequence[SuiteItem]) -> list[str] | None:
    """Which replies are to one item; None where each is to another."""
    names = [item.id for item in items]
    return None if len(set(names)) == len(names) else names
