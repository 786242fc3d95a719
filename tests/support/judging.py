"""Replies of one label, and evidence of a steering that turns one into the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steernode.engine.applying.generate import Reply
from steernode.engine.judging.comparison import Loss, beside, measure_losses
from steernode.engine.measuring.items import EvalItems
from steernode.engine.measuring.labelledreplies import LabelledReply, read_labelled
from steernode.engine.measuring.metrics import ReplyScores, score_replies
from steernode.engine.measuring.refusaljudge import Judged
from steernode.files.suites import SuiteItem
from tests.support.tiny_models import ask


class SaysOfAll:
    """A judge that calls every reply the same."""

    def __init__(self, label: str) -> None:
        self._label = label

    def judge(self, texts: Sequence[str]) -> list[Judged]:
        return [Judged(self._label, 1.0, 1.0) for _ in texts]


class CountNothing:
    description = {"kind": "nothing"}

    def score(self, texts: Sequence[str]) -> np.ndarray:
        return np.zeros(len(texts))


def all_labelled() -> tuple[LabelledReply, ...]:
    replies = read_labelled()
    return replies.training + replies.held_out


def requests(count: int, *, refuse: bool, **expect: object) -> tuple[SuiteItem, ...]:
    return tuple(
        SuiteItem(f"request-{index}", "test", ask(str(index)), {"refuse": refuse, **expect}, "en-US", "billing", "0" * 64)
        for index in range(count)
    )


def score(items: Sequence[SuiteItem], texts: Sequence[str]) -> ReplyScores:
    """Of replies to safety items alone."""
    replies = [Reply(text, (1,), 6, 5, 1.0) for text in texts]
    return score_replies(EvalItems((), (), tuple(items)), replies, CountNothing(), (np.ones(0), np.ones(0)))


def lose(items: Sequence[SuiteItem], own: Sequence[str], steered: Sequence[str]) -> dict[str, Loss]:
    # Facts there must be; nothing is lost of this one.
    scores = [score(items, texts) for texts in (own, steered)]
    fact = SuiteItem("fact", "test", ask("fact"), {"contains": ["15"]}, "en-US", "billing", "0" * 64)
    for each in scores:
        object.__setattr__(each, "facts", np.ones(1))
    return measure_losses(EvalItems((), (fact,), tuple(items)), *scores)


def as_metric(loss: Loss) -> dict[str, object]:
    return beside(loss.share, 0.0)
