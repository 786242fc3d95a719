"""Schedules: how a coefficient changes over the reply. A factor from 0 to 1, so that a schedule can only weaken what was approved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from steernode.errors import EngineError
from steernode.words import SCHEDULE_LEAST, SCHEDULE_PARAMETERS

SCHEDULES = tuple(SCHEDULE_PARAMETERS)


@dataclass(frozen=True)
class Schedule:
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
    """Raises: EngineError SCHEDULE_UNKNOWN for the kind; SCHEDULE_INVALID for a missing or unknown parameter, one that is negative or
    no whole number, a decay over no token, or a window that ends before it starts."""
    if schedule.kind not in SCHEDULE_PARAMETERS:
        raise EngineError("SCHEDULE_UNKNOWN", f"schedule {schedule.kind!r} is not known; known are {', '.join(SCHEDULES)}", schedule.kind)
    values = dict(schedule.parameters)
    wrong = sorted(set(values) ^ set(SCHEDULE_PARAMETERS[schedule.kind]))
    if wrong:
        problem = "is unknown" if wrong[0] in values else "is missing"
        raise EngineError("SCHEDULE_INVALID", f"parameter {wrong[0]!r} of schedule {schedule.kind!r} {problem}", wrong[0])
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < SCHEDULE_LEAST[name]:
            raise EngineError("SCHEDULE_INVALID", f"{name} must be an integer of at least {SCHEDULE_LEAST[name]}, got {value!r}", name)
    if schedule.kind == "window" and values["last_token"] < values["first_token"]:
        raise EngineError(
            "SCHEDULE_INVALID",
            f"the window ends at token {values['last_token']}, before it starts at {values['first_token']}",
            "last_token",
        )
