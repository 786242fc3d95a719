"""Answering the test items, without and with steering, kind of item by kind of item: what is cheap and often fails is judged first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cached_property

import numpy as np

from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component, group_acting
from steernode.engine.applying.generate import Reply, generate
from steernode.engine.judging import stages
from steernode.engine.judging.acting import Rows, any_acts, by_component
from steernode.engine.judging.comparison import measure_losses
from steernode.engine.judging.prompting import Prompted, ask_prompted
from steernode.engine.judging.runs import Metrics, Runs, describe_replies, describe_shift, neutral_rows
from steernode.engine.measuring.items import EvalItems
from steernode.engine.measuring.metrics import (
    ReplyScores,
    Scorer,
    TokenDivergence,
    measure_divergence,
    measure_first_token_shift,
    measure_surprisal,
    score_replies,
)
from steernode.engine.measuring.stats import Floats
from steernode.records.decoding import GREEDY_DECODING, Decoding

_OWN, _STEERED, _PROMPT = "own", "steered", "prompt"
_NOTHING = (np.zeros(0), np.zeros(0))


class Answers:
    """The replies to every item without and with steering, once or once for each seed, both with the same noise; and, where there are
    `systems`, without steering under these messages in turn, which is the prompt to compare with.

    `acts` (items,) says where the components act, or (items, components) where each does, and the prompt with any; elsewhere the model's
    own reply stands. None is everywhere.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        items: EvalItems,
        components: Sequence[Component],
        scorer: Scorer,
        *,
        max_new_tokens: int,
        decoding: Decoding = GREEDY_DECODING,
        systems: Sequence[str] = (),
        acts: Rows | None = None,
    ) -> None:
        self._loaded, self._components, self._scorer = loaded, components, scorer
        self._max_new_tokens, self._systems = max_new_tokens, tuple(systems)
        self._acts = items.repeat_rows(by_component(acts, len(items.all), len(components)), decoding.replies_per_item)
        self._is_acted_on = any_acts(self._acts)
        self.items = items.repeated(decoding.replies_per_item)
        self._sampling = None if decoding.is_greedy else self.items.sampling(decoding)
        self._asked = self.items.conversations
        self._told = ask_prompted(loaded, self._asked, systems) if systems else []
        self._replies: dict[str, dict[int, Reply]] = {_OWN: {}, _STEERED: {}, _PROMPT: {}}
        self._scores: dict[str, list[ReplyScores]] = {_OWN: [], _STEERED: [], _PROMPT: []}
        self._divergence: TokenDivergence | None = None
        self._shift: Floats | None = None
        self._metrics: Metrics = {}

    def measure(self) -> Iterator[Metrics]:
        """What each stage says as gates read it, once it is measured. Raises: the codes of `generate` and `score_forced`."""
        for found in self._stages():
            self._metrics |= found
            yield found

    def finish(self) -> Runs:
        """All of it, measured to the end. Raises: as `measure`."""
        for _ in self.measure():
            pass
        return self.runs

    @cached_property
    def runs(self) -> Runs:
        """All of it, once all is measured."""
        if self._divergence is None:
            raise RuntimeError("nothing is measured yet")
        own, steered = self._whole(_OWN), self._whole(_STEERED)
        prompted = None
        if self._shift is not None:
            prompted = Prompted(self._systems, self._in_order(_PROMPT), self._whole(_PROMPT), self._shift)
        losses = measure_losses(self.items, own, steered)
        replies = self._in_order(_OWN), self._in_order(_STEERED)
        return Runs(self.items, *replies, own, steered, losses, self._divergence, prompted, self._metrics)

    def _stages(self) -> Iterator[Metrics]:
        items = self.items
        known = EvalItems((), items.facts, (), items.capability, items.repeats)
        yield self._answer(stages.TICKETS, EvalItems(items.behaviour, (), (), (), items.repeats))
        yield self._answer(stages.REQUESTS, EvalItems((), (), items.refusals, (), items.repeats))
        yield self._compare(known)
        yield self._answer(stages.KNOWN, known)

    def _answer(self, stage: str, part: EvalItems) -> Metrics:
        self._loaded.work.enter(stage)
        sides = [self._score(side, part) for side in (_OWN, _STEERED, *([_PROMPT] if self._told else []))]
        return describe_replies(part, *sides) if part.all else {}

    def _compare(self, known: EvalItems) -> Metrics:
        """How far steering moves what the model says by itself where nothing is meant to change."""
        self._loaded.work.enter(stages.LOSSES)
        rows = neutral_rows(self.items)
        self._write(_OWN, self._rows_of(known))
        asked, own = [self._asked[row] for row in rows], [self._replies[_OWN][row] for row in rows]
        self._divergence = measure_divergence(self._loaded, asked, own, self._components, self._acts[rows])
        if self._told:
            moved = [self._told[row] if self._is_acted_on[row] else self._asked[row] for row in rows]
            self._shift = measure_first_token_shift(self._loaded, asked, moved)
        return describe_shift(self._divergence, self._shift)

    def _score(self, side: str, part: EvalItems) -> ReplyScores:
        rows = self._rows_of(part)
        self._write(side, rows)
        replies = [self._replies[side][row] for row in rows]
        # However a reply was brought about, what is unexpected about it is read by the model alone.
        tickets = [item.messages for item in part.behaviour]
        surprisal = measure_surprisal(self._loaded, tickets, replies) if tickets else _NOTHING
        scores = score_replies(part, replies, self._scorer, surprisal)
        self._scores[side].append(scores)
        return scores

    def _write(self, side: str, rows: Sequence[int]) -> None:
        """The replies at these rows, where they are not there yet."""
        written = self._replies[side]
        missing = [row for row in rows if row not in written]
        if side != _OWN:
            written.update({row: self._replies[_OWN][row] for row in missing if not self._is_acted_on[row]})
            missing = [row for row in missing if self._is_acted_on[row]]
        if not missing:
            return
        groups: list[tuple[list[int], list[Component]]] = [(list(range(len(missing))), [])]
        if side == _STEERED:
            groups = group_acting(self._components, self._acts[missing])
        asked = self._told if side == _PROMPT else self._asked
        for places, acting in groups:
            chosen = [missing[place] for place in places]
            replies = generate(
                self._loaded,
                [asked[row] for row in chosen],
                components=acting,
                max_new_tokens=self._max_new_tokens,
                sampling=None if self._sampling is None else [self._sampling[row] for row in chosen],
            )
            written.update(zip(chosen, replies, strict=True))

    def _rows_of(self, part: EvalItems) -> list[int]:
        """Where the kinds of a part stand among all items."""
        found: list[int] = []
        start = 0
        for whole, kept in zip(self.items.parts, part.parts, strict=True):
            found += range(start, start + len(whole)) if kept else ()
            start += len(whole)
        return found

    def _in_order(self, side: str) -> list[Reply]:
        return [self._replies[side][row] for row in range(len(self._asked))]

    def _whole(self, side: str) -> ReplyScores:
        """The scores of all items: each of its numbers is of items of one kind."""
        parts = self._scores[side]
        return ReplyScores(**{each.name: np.concatenate([getattr(scores, each.name) for scores in parts]) for each in fields(ReplyScores)})
