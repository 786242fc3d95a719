"""Answers requests on an engine that generates whole replies itself, one at a time: one user of following and deciding."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from steernode.errors import AlphaError
from steernode.files.conversations import Message
from steernode.node.deciding import InForce, decide
from steernode.node.follower import Follower
from steernode.node.gate import BatchGate
from steernode.node.watching import watch_request
from steernode.records.decoding import GREEDY, Sampling
from steernode.snapshot.conditions import NO_FACTS, RequestFacts
from steernode.snapshot.resolve import Effective

DECIDE_AGAIN_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Generation:
    """One reply. `finish_reason` is 'stop' when the model ended it, 'length' when max_tokens did.

    `effective` is what steered it once its conditions were decided, with `stopped` if it was not steered to its end; None from an
    engine that has neither conditions nor a way to stop, and so applied what it was given.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    milliseconds_per_token: float
    finish_reason: str
    effective: Effective | None = None


class Generates(Protocol):
    """A loaded model that answers. `Responder` never asks while the follower swaps."""

    def generate(
        self,
        messages: Sequence[Message],
        effective: Effective,
        *,
        max_tokens: int,
        sampling: Sampling = GREEDY,
        facts: RequestFacts = NO_FACTS,
        stop_reason: Callable[[], str] | None = None,
    ) -> Generation:
        """A reply chosen as `sampling` says, steered by `effective.components`; their vectors are found by `component.vector.sha256`.

        `facts` are what conditions look at, and say that the text was read for the safety override. `stop_reason` is to be asked before
        every token: once it has a reason, the rest is what the unsteered model says after the prompt and the tokens that are there
        (`Effective.until`).
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
        sampling: Sampling = GREEDY,
        key: str = "",
        alpha: Decimal | None = None,
        facts: RequestFacts = NO_FACTS,
    ) -> tuple[Effective, Generation]:
        """One reply, steered as the snapshot in force at its first token says, for as long as anything steers the request, and what
        really steered it once its conditions were decided. An unknown tenant is not steered. Raises: as `decide`, and the engine's own
        errors."""

        def decide_by(in_force: InForce | None) -> Effective:
            return decide(in_force, tenant, route, now=self.follower.now(), key=key, alpha=alpha)

        with self._gate.batch():
            effective, facts = watch_request(decide_by(self.follower.in_force), messages, facts)
            stop_reason = _StopReason(self.follower, decide_by) if effective.profile else None
            try:
                generation = self._engine.generate(
                    messages, effective, max_tokens=max_tokens, sampling=sampling, facts=facts, stop_reason=stop_reason
                )
            except Exception:
                self.counters["requests_failed"] += 1
                raise
            effective = generation.effective or effective
            self.counters["requests_steered" if effective.profile else "requests_unsteered"] += 1
            if effective.stopped:
                self.counters["requests_stopped"] += 1
            self.counters["tokens_generated"] += generation.completion_tokens
            return effective, generation


class _StopReason:
    """Why a request that was steered no longer is; empty while it is. Cheap enough to be asked before every token.

    What one view of the follower says changes with time alone, and a stale policy counts seconds.
    """

    def __init__(self, follower: Follower, decide_by: Callable[[InForce | None], Effective]) -> None:
        self._follower, self._decide_by = follower, decide_by
        self._view, self._decided_at = follower.in_force, time.monotonic()

    def __call__(self) -> str:
        view, now = self._follower.in_force, time.monotonic()
        if view is self._view and now - self._decided_at < DECIDE_AGAIN_SECONDS:
            return ""
        self._view, self._decided_at = view, now
        try:
            effective = self._decide_by(view)
        except AlphaError:
            # What its flag lets requests ask for has changed: a matter for the next request, since this one began as it then might.
            return ""
        return "" if effective.profile else effective.reason
