"""Conversations of several turns: whether the behaviour stays, and whether the model falls into saying the same again.

The model answers turn by turn, each time with what it said itself before it; so a steered conversation goes its own way. The user
says the same in both. A push that is harmless in one reply can build up over ten (arXiv:2605.10664).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steernode.engine.access.encoding import encode_prompt
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import generate
from steernode.engine.judging import stages
from steernode.engine.measuring.metrics import Scorer
from steernode.engine.measuring.stats import Floats, estimate_difference, estimate_mean
from steernode.errors import EngineError
from steernode.files.conversations import Message
from steernode.files.suites import SuiteItem
from steernode.gates import OF_TURNS
from steernode.records.decoding import Decoding

# Turns whose behaviour is held against that of the first, and words in a run that is said again.
LAST = 3
_RUN = 4


@dataclass(frozen=True)
class Turns:
    """The metrics of `OF_TURNS`, and how many conversations they rest on."""

    metrics: dict[str, dict[str, Any]]
    document: dict[str, Any]


def measure_turns(
    loaded: LoadedModel,
    conversations: Sequence[SuiteItem],
    components: Sequence[Component],
    scorer: Scorer,
    *,
    max_new_tokens: int,
    decoding: Decoding,
) -> Turns:
    """Without and with steering. A conversation ends where the model has nothing to say or its context is full.

    `turns_behaviour` is the behaviour of the last three replies minus that of the first; `turns_repetition` the share of the last
    reply that was said before, in it or in an earlier one.
    Raises: EngineError TURNS_MISSING if none gets to a second reply both ways; the codes of `generate`.
    """
    loaded.work.enter(stages.TURNS)
    talked = [_talk(loaded, conversations, steering, max_new_tokens, decoding) for steering in ((), components)]
    rows = [row for row in range(len(conversations)) if all(len(each[row]) > 1 for each in talked)]
    if not rows:
        raise EngineError("TURNS_MISSING", "no conversation got to a second reply, so that nothing can be said of several turns", "turns")
    drifts: list[Floats] = []
    repeated: list[Floats] = []
    for replies in talked:
        drifts.append(np.array([_drift(scorer.score(replies[row])) for row in rows]))
        repeated.append(np.array([said_again(replies[row]) for row in rows]))
    cut = sum(len(replies[row]) <= len(conversations[row].turns) for replies in talked for row in range(len(conversations)))
    longest = max(len(replies[row]) for replies in talked for row in rows)
    metrics = dict(zip(OF_TURNS, (_compare(*drifts), _compare(*repeated)), strict=True))
    return Turns(metrics, {"conversations": len(rows), "turns": longest, "cut_short": cut})


def said_again(replies: Sequence[str]) -> float:
    """The share of the runs of four words in the last reply that stood before, in it or in an earlier one."""
    *earlier, last = (_runs(reply) for reply in replies)
    seen = {run for runs in earlier for run in runs}
    again = 0
    for run in last:
        again += run in seen
        seen.add(run)
    return again / len(last) if last else 0.0


def _runs(text: str) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[start : start + _RUN]) for start in range(len(words) - _RUN + 1)]


def _talk(
    loaded: LoadedModel, conversations: Sequence[SuiteItem], steering: Sequence[Component], max_new_tokens: int, decoding: Decoding
) -> list[list[str]]:
    """The replies of each conversation, in turn."""
    said: list[list[str]] = [[] for _ in conversations]
    so_far = [tuple(item.messages) for item in conversations]
    open_rows = list(range(len(conversations)))
    for turn in range(1 + max(len(item.turns) for item in conversations)):
        if turn:
            open_rows = [row for row in open_rows if said[row][-1].strip() and turn <= len(conversations[row].turns)]
            for row in open_rows:
                so_far[row] += (Message("assistant", said[row][-1]), Message("user", conversations[row].turns[turn - 1]))
        open_rows = [row for row in open_rows if _fits(loaded, so_far[row], max_new_tokens)]
        if not open_rows:
            break
        sampling = None if decoding.is_greedy else [decoding.sample(f"{conversations[row].id} {turn}")[0] for row in open_rows]
        asked = [so_far[row] for row in open_rows]
        replies = generate(loaded, asked, components=steering, max_new_tokens=max_new_tokens, sampling=sampling)
        for row, reply in zip(open_rows, replies, strict=True):
            said[row].append(reply.text)
    return said


def _fits(loaded: LoadedModel, conversation: Sequence[Message], max_new_tokens: int) -> bool:
    try:
        length = len(encode_prompt(loaded, conversation).token_ids)
    except EngineError as error:
        if error.code != "CONTEXT_LENGTH":
            raise
        return False
    return length + max_new_tokens <= loaded.manifest.context_length


def _drift(scores: Floats) -> float:
    return float(scores[1:][-LAST:].mean() - scores[0])


def _compare(own: Floats, steered: Floats) -> dict[str, Any]:
    estimates = {"baseline": estimate_mean(own), "steered": estimate_mean(steered), "difference": estimate_difference(steered, own)}
    return {name: estimate.to_document() for name, estimate in estimates.items()}
