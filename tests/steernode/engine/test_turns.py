"""Conversations of several turns: the model answers what it said itself, and what it says again is seen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from steernode.engine.applying.generate import Reply
from steernode.engine.judging import turns
from steernode.engine.judging.evaluate import evaluate
from steernode.engine.judging.turns import measure_turns, said_again
from steernode.engine.reading.directions import extract_directions
from steernode.errors import EngineError
from steernode.files.suites import SuiteFile, SuiteItem
from steernode.records.decoding import GREEDY_DECODING
from tests.support.candidates import make_candidate
from tests.support.planted_models import CountWarmTokens, plant, write_pairs, write_suites
from tests.support.tiny_models import ask


def conversation(name: str, count: int = 5, **changes: Any) -> SuiteItem:
    said = tuple(f"{name}{turn}" for turn in range(1, count))
    return SuiteItem(name, "test", ask(name), {}, "en-US", "billing", "0" * 64, turns=said, **changes)


class ByLength:
    description = {"kind": "counts words"}

    def score(self, texts: list[str]) -> np.ndarray:
        return np.array([float(len(text.split())) for text in texts])


def measure(monkeypatch: pytest.MonkeyPatch, conversations: list[SuiteItem], answer: Any, fits: Any = None) -> tuple[Any, list[Any]]:
    asked: list[Any] = []

    def generate(loaded: Any, conversations: Any, *, components: Any, **options: Any) -> list[Reply]:
        asked.append([[message.content for message in each] for each in conversations])
        said = [answer(each[0].content, sum(m.role == "user" for m in each), bool(components)) for each in conversations]
        return [Reply(text, (1,), None, 1, 1.0) for text in said]

    monkeypatch.setattr(turns, "generate", generate)
    monkeypatch.setattr(turns, "_fits", lambda loaded, messages, most: fits(messages) if fits else True)
    loaded: Any = SimpleNamespace(work=SimpleNamespace(enter=lambda stage: None))
    options: Any = {"max_new_tokens": 4, "decoding": GREEDY_DECODING}
    return measure_turns(loaded, conversations, ["steering"], ByLength(), **options), asked  # type: ignore[list-item]


def test_each_turn_is_asked_after_what_the_model_said_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(first: str, turn: int, is_steered: bool) -> str:
        return " ".join([f"{first}{turn}"] * (1 + turn * is_steered))

    found, asked = measure(monkeypatch, [conversation("a"), conversation("b", 3)], answer)
    assert [len(rows) for rows in asked] == [2, 2, 2, 1, 1] * 2
    assert asked[6][0] == ["a", "a1 a1", "a1"]
    # Steered it says a word more each turn: 2, then 3 to 6 or 3 and 4. Without steering it never changes.
    drift = found.metrics["turns_behaviour"]
    assert (drift["baseline"]["value"], drift["steered"]["value"]) == ("0", "2.25")
    assert drift["difference"]["value"] == "2.25"
    assert found.document == {"conversations": 2, "turns": 5, "cut_short": 0}


def test_a_conversation_ends_where_nothing_is_said_or_nothing_more_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(first: str, turn: int, is_steered: bool) -> str:
        return "" if first == "a" and turn == 3 and is_steered else "yes"

    found, _ = measure(monkeypatch, [conversation("a"), conversation("b")], answer, lambda said: len(said) < 9 or said[0].content == "a")
    assert found.document == {"conversations": 2, "turns": 5, "cut_short": 3}
    with pytest.raises(EngineError) as refused:
        measure(monkeypatch, [conversation("a")], lambda *asked: "")
    assert refused.value.code == "TURNS_MISSING"


@pytest.mark.parametrize(
    ("replies", "share"),
    [
        (["one two three four", "five six seven eight"], 0.0),
        (["one two three four five", "one two three four six"], 0.5),
        (["we will call you back today", "fine", "we will call you back today"], 1.0),
        (["a b", "c c c c c c"], 2 / 3),
        (["one two three four", "yes"], 0.0),
    ],
)
def test_what_was_said_before_is_counted_over_the_whole_conversation(replies: list[str], share: float) -> None:
    assert said_again(replies) == pytest.approx(share)


def test_evidence_holds_the_turns_that_a_gate_asks_for(tmp_path: Any) -> None:
    planted, suites = plant(tmp_path, 2), write_suites()
    candidate = make_candidate(extract_directions(planted.loaded, write_pairs(), layers=[planted.layer])[0], "0.5")
    gates = [{"metric": "turns_behaviour", "kind": "min", "threshold": "-0.5"}]
    with pytest.raises(EngineError, match="no fluency suite with conversations") as refused:
        evaluate(planted.loaded, candidate, suites, CountWarmTokens(), gates, max_new_tokens=4)
    assert refused.value.code == "GATE_UNMEASURED"
    suites["fluency"] = SuiteFile("fluency", (conversation("a", 3), conversation("b", 3)), "4" * 64)
    evidence = evaluate(planted.loaded, candidate, suites, CountWarmTokens(), gates, max_new_tokens=4).document
    assert evidence["turns"]["turns"] == 3
    assert set(evidence["metrics"]["turns_repetition"]) == {"baseline", "steered", "difference"}
