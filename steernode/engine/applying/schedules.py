"""Schedules: how a coefficient changes over the reply. A factor from 0 to 1, so that a schedule can only weaken what was approved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from steernode.errors import EngineError
from steernode.snapshot.records import ScheduleEntry
from steernode.words import SCHEDULE_PARAMETERS

SCHEDULES = tuple(SCHEDULE_PARAMETERS)


@dataclass(frozen=True)
class Schedule(ScheduleEntry):
    """The factor f(t) on a coefficient at generated token t. Token 0 is the last prompt token's position, which produces the first
    token of the reply; prompt tokens before it, where a scope covers them, are treated as token 0.

    constant                     f(t) = 1
    linear(tokens)               f(t) = max(0, 1 - t / tokens)
    exponential(half_life_tokens) f(t) = 2 ** (-t / half_life_tokens)
    window(first_token, last_token) f(t) = 1 from first to last, both included, else 0
    """

    kind: str = "constant"
    parameters: tuple[tuple[str, int], ...] = ()

    @property
    def is_constant(self) -> bool:
        return self.kind == "constant"

    def factor(self, token: int) -> float:
        """f(token); a negative token is a prompt token."""
        if self.kind == "constant":
            return 1.0
        token = max(0, token)
        values = dict(self.parameters)
        if self.kind == "linear":
            return max(0.0, 1.0 - token / values["tokens"])
        if self.kind == "exponential":
            return float(2.0 ** (-token / values["half_life_tokens"]))
        return float(values["first_token"] <= token <= values["last_token"])

    def factors(self, tokens: Tensor) -> Tensor:
        """f of each of `tokens` (integers, any shape), float32: the values that `factor` gives, so that one pass over a whole reply
        and one pass per token steer alike."""
        if self.is_constant:
            return torch.ones(tokens.shape)
        clamped = tokens.clamp(min=0)
        table = torch.tensor([self.factor(token) for token in range(int(clamped.max()) + 1)])
        return table[clamped]


CONSTANT = Schedule()


def make_schedule(kind: str, parameters: Mapping[str, int] | None = None) -> Schedule:
    """Raises: EngineError SCHEDULE_UNKNOWN, SCHEDULE_INVALID."""
    schedule = Schedule(kind, tuple(sorted((parameters or {}).items())))
    check_schedule(schedule)
    return schedule


def check_schedule(schedule: Schedule) -> None:
    """Raises: EngineError SCHEDULE_UNKNOWN for the kind; SCHEDULE_INVALID naming the parameter that `find_problem` finds."""
    if schedule.kind not in SCHEDULE_PARAMETERS:
        raise EngineError("SCHEDULE_UNKNOWN", f"schedule {schedule.kind!r} is not known; known are {', '.join(SCHEDULES)}", schedule.kind)
    if problem := schedule.find_problem():
        raise EngineError("SCHEDULE_INVALID", f"{problem[0]} of a {schedule.kind} schedule {problem[1]}", problem[0])
