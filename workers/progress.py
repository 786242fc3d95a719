"""How far a job is, and how long the rest takes: counted in what its calls make, at the rates at which it made them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from registry.services.steps import Taken
from steernode.durations import say_time_left

if TYPE_CHECKING:
    from steernode.engine.access.work import Planned

# A stage, and what it makes there: replies, texts, pairs.
Kind = tuple[str, str]


@dataclass
class _Tally:
    """What was planned of one kind, and what is done; seconds are those that it was worked on, by whatever attempt."""

    planned: int = 0
    done: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Progress:
    """What was planned, done before, and is done since. A stage that is left is over, whether or not all that was planned came about."""

    def __init__(self, plan: Iterable[Planned], before: Iterable[Taken] = ()) -> None:
        self._tallies: dict[Kind, _Tally] = {}
        self._stages: list[str] = []
        self._over: set[str] = set()
        for each in plan:
            self._tally(each.stage, each.name).planned += each.count
            if each.stage not in self._stages:
                self._stages.append(each.stage)
        for taken in before:
            self.add(taken)

    def enter(self, stage: str) -> None:
        """The stages planned before this one are over. One that was not planned says nothing of the others."""
        if stage in self._stages:
            self._over.update(self._stages[: self._stages.index(stage)])

    def expect(self, stage: str, name: str, count: int) -> None:
        """There are so many of the kind at least: who measures knows better than who planned."""
        tally = self._tally(stage, name)
        if stage in self._stages:
            tally.planned = max(tally.planned, count)

    def add(self, taken: Taken) -> None:
        """A negative count takes back what was counted."""
        tally = self._tally(taken.stage, taken.name)
        tally.done += taken.count
        tally.tokens += taken.tokens
        tally.seconds += taken.seconds

    @property
    def total(self) -> int:
        return sum(tally.planned for tally in self._tallies.values())

    @property
    def done(self) -> int:
        return self.total - sum(self._left(kind) for kind in self._tallies)

    def done_of(self, stage: str, name: str) -> int:
        return self._tally(stage, name).done

    def say(self, stage: str, name: str) -> str:
        """How far the kind is, and how long its stage takes, for people."""
        tally = self._tally(stage, name)
        left = self.seconds_left(stage)
        return f"{tally.done} of {max(tally.planned, tally.done)} {name}{f', this stage {say_time_left(ceil(left))}' if left else ''}"

    def seconds_left(self, stage: str | None = None) -> float | None:
        """Of the job, or of one stage; None while something is left that nothing like it was measured of."""
        seconds = 0.0
        for kind in self._tallies:
            if (stage in (None, kind[0])) and (left := self._left(kind)):
                rate = self._seconds_for_one(kind)
                if rate is None:
                    return None
                seconds += left * rate
        return seconds

    def tokens_per_second(self, stage: str, name: str) -> float | None:
        tally = self._tally(stage, name)
        return tally.tokens / tally.seconds if tally.tokens and tally.seconds else None

    def _left(self, kind: Kind) -> int:
        tally = self._tallies[kind]
        return 0 if kind[0] in self._over else max(0, tally.planned - tally.done)

    def _seconds_for_one(self, kind: Kind) -> float | None:
        """As it was in this stage, or else in any."""
        own = self._tallies[kind]
        alike = [own] if own.done > 0 and own.seconds else [tally for each, tally in self._tallies.items() if each[1] == kind[1]]
        done = sum(tally.done for tally in alike)
        return sum(tally.seconds for tally in alike) / done if done > 0 else None

    def _tally(self, stage: str, name: str) -> _Tally:
        return self._tallies.setdefault((stage, name), _Tally())
