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
from steernode.engine.measuring.stats import Floats, estimate_difference, estimate_mean, reference
from steernode.errors import EngineError
from steernode.files.conversations import Message
from steernode.files.suites import SuiteItem
from steernode.gates import OF_TURNS
from steernode.records.decoding import Decoding

# Turns whose behaviour is held against that of the first, and words in a run that is said again.
LAST = 3
_RUN = 4
# What a scorer says of a reply that shows nothing of the behaviour.
_LOWEST = 1.0


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
    reply that was said before, in it or in an earlier one. Both are of the turns that both runs reach. With steering, who falls silent
    where the model alone goes on has reached them too, saying nothing: nothing of the behaviour, and nothing new.
    Nothing is concluded, TURNS_MISSING, where no conversation gets to a second turn.
    Raises: the codes of `generate`.
    """
    loaded.work.enter(stages.TURNS)
    talked = [_talk(loaded, conversations, steering, max_new_tokens, decoding) for steering in ((), components)]
    paired = [pair for own, steered in zip(*talked, strict=True) if len((pair := _pair(own, steered))[0]) > 1]
    runs = list(zip(*paired, strict=True)) or [(), ()]
    scores = [[scorer.score(replies) for replies in run] for run in runs]
    lowest = min([_LOWEST, *(float(each.min()) for run in scores for each in run)])
    drifts = [np.array([_drift(*both, lowest) for both in zip(run, said, strict=True)]) for run, said in zip(scores, runs, strict=True)]
    repeated = [np.array([said_again(replies) for replies in run]) for run in runs]
    document = {
        "conversations": len(paired),
        "turns": max((len(own) for own, _ in paired), default=0),
        "cut_short": sum(len(said) <= len(item.turns) for run in talked for said, item in zip(run, conversations, strict=True)),
        "fell_silent": sum(not steered[-1].strip() for _, steered in paired),
    }
    return Turns(dict(zip(OF_TURNS, (_compare(*drifts), _compare(*repeated)), strict=True)), document)


def said_again(replies: Sequence[str]) -> float:
    """The share of the runs of four words in the last reply, or of fewer if it has no more, that stood before, in it or in an earlier
    one. Who says nothing says nothing new."""
    *earlier, last = (_runs(reply) for reply in replies)
    seen = {run for runs in earlier for run in runs}
    again = 0
    for run in last:
        again += run in seen
        seen.add(run)
    return again / len(last) if last else 1.0


def _runs(text: str) -> list[tuple[str, ...]]:
    words = text.split()
    return [tuple(words[start : start + _RUN]) for start in range(max(len(words) - _RUN, 0) + 1)] if words else []


def _pair(own: Sequence[str], steered: Sequence[str]) -> tuple[list[str], list[str]]:
    """The replies of the turns that both reach: the model alone by saying something, the steered one also by silence to the end."""
    alone = list(own) if not own or own[-1].strip() else list(own[:-1])
    silent = bool(steered) and not steered[-1].strip()
    reached = len(alone) if silent else min(len(alone), len(steered))
    return alone[:reached], [*steered, *[""] * reached][:reached]


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


def _drift(scores: Floats, replies: Sequence[str], lowest: float) -> float:
    heard = np.where([bool(reply.strip()) for reply in replies], scores, lowest)
    return float(heard[1:][-LAST:].mean() - heard[0])


def _compare(own: Floats, steered: Floats) -> dict[str, Any]:
    if len(own) == 0:
        reason = "no conversation gets to a second turn, so that nothing can be said of several"
        empty = reference(0.0, 0).to_document()
        nothing = dict.fromkeys(("baseline", "steered", "difference"), empty)
        return {**nothing, "undecidable": {"code": "TURNS_MISSING", "reason": reason}}
    estimates = {"baseline": estimate_mean(own), "steered": estimate_mean(steered), "difference": estimate_difference(steered, own)}
    return {name: estimate.to_document() for name, estimate in estimates.items()}
