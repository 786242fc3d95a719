"""Answers requests on an engine that generates whole replies itself, one at a time: one user of following and deciding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from steernode.files.conversations import Message
from steernode.node.deciding import decide
from steernode.node.follower import Follower
from steernode.node.gate import BatchGate
from steernode.snapshot.conditions import NO_FACTS, RequestFacts
from steernode.snapshot.resolve import Effective


@dataclass(frozen=True, slots=True)
class Generation:
    """One reply. `finish_reason` is 'stop' when the model ended it, 'length' when max_tokens did.

    `effective` is what steered it once its conditions were decided; None from an engine that has no conditions, and so applied
    what it was given.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    milliseconds_per_token: float
    finish_reason: str
    effective: Effective | None = None


class Generates(Protocol):
    """A loaded model that answers. `Responder` never asks while the follower swaps."""

    def generate(self, messages: Sequence[Message], effective: Effective, *, max_tokens: int, facts: RequestFacts = NO_FACTS) -> Generation:
        """The most likely reply, steered by `effective.components`; their vectors are found by `component.vector.sha256`.

        `facts` are what conditions on intents and attributes look at.
        """
        ...


class Responder:
    """The replies of a follower's engine, and how many there were. Made before the follower is started, which swaps in its gate."""

    def __init__(self, follower: Follower, engine: Generates) -> None:
        self.follower = follower
        self.counters: Counter[str] = Counter()
        self._engine, self._gate = engine, BatchGate()
        follower.swapping = self._gate.swap

    def generate(
        self,
        messages: Sequence[Message],
        *,
        tenant: str,
        route: str,
        max_tokens: int,
        key: str = "",
        alpha: Decimal | None = None,
        facts: RequestFacts = NO_FACTS,
    ) -> tuple[Effective, Generation]:
        """One reply, steered as the snapshot in force at its first token says, and what really steered it once its conditions
        were decided. An unknown tenant is not steered. Raises: as `decide`, and the engine's own errors."""
        with self._gate.batch():
            effective = decide(self.follower.in_force, tenant, route, now=self.follower.now(), key=key, alpha=alpha)
            try:
                generation = self._engine.generate(messages, effective, max_tokens=max_tokens, facts=facts)
            except Exception:
                self.counters["requests_failed"] += 1
                raise
            effective = generation.effective or effective
            self.counters["requests_steered" if effective.profile else "requests_unsteered"] += 1
            self.counters["tokens_generated"] += generation.completion_tokens
            return effective, generation
