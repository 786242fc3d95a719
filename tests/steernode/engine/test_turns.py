"""Conversations of several turns: the model answers what it said itself, and what it says again is seen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from steernode.engine.applying.generate import Reply
from steernode.engine.judging import turns
from steernode.engine.judging.evaluate import Evaluation
from steernode.engine.judging.turns import measure_turns, said_again
from steernode.engine.measuring.gates import judge_evidence
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
    steering: Any = ["something"]
    options: Any = {"max_new_tokens": 4, "decoding": GREEDY_DECODING}
    return measure_turns(loaded, conversations, steering, ByLength(), **options), asked


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
    assert found.document == {"conversations": 2, "turns": 5, "cut_short": 0, "fell_silent": 0}


def test_a_conversation_ends_where_nothing_is_said_or_nothing_more_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(first: str, turn: int, is_steered: bool) -> str:
        return "" if first == "a" and turn == 3 and is_steered else "yes"

    found, _ = measure(monkeypatch, [conversation("a"), conversation("b")], answer, lambda said: len(said) < 9 or said[0].content == "a")
    assert found.document == {"conversations": 2, "turns": 5, "cut_short": 3, "fell_silent": 1}


def value(found: Any, metric: str, side: str = "difference") -> float:
    return float(found.metrics[metric][side]["value"])


@pytest.mark.parametrize("speaks", [0, 1])
def test_a_candidate_that_falls_silent_has_the_lowest_behaviour_and_says_nothing_new(monkeypatch: pytest.MonkeyPatch, speaks: int) -> None:
    def answer(first: str, turn: int, is_steered: bool) -> str:
        silent = is_steered and turn > speaks and first != "a"
        return "" if silent else " ".join(f"{first}{turn}{word}" for word in range(4))

    found, _ = measure(monkeypatch, [conversation(name) for name in "abcdefghij"], answer)
    assert (found.document["conversations"], found.document["fell_silent"]) == (10, 9)
    assert value(found, "turns_repetition") == pytest.approx(0.9)
    assert value(found, "turns_behaviour") == pytest.approx(-0.9 * 4 * speaks)
    gates = [{"metric": "turns_repetition", "kind": "max_difference", "threshold": "0.1"}]
    assert judge_evidence(gates, found.metrics)[0]["verdict"] == "fail"
    everyone, _ = measure(monkeypatch, [conversation("b")], answer)
    assert judge_evidence(gates, everyone.metrics)[0]["verdict"] == "fail"


def test_both_runs_are_compared_at_the_turns_that_both_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(first: str, turn: int, is_steered: bool) -> str:
        # Alone, it begins to repeat itself at the fourth turn; steered it gets to the third only.
        return "the same as ever" if turn > 3 else " ".join([str(turn)] * 3 + ["words"] * (1 + is_steered))

    fits = [True] * 5 + [True] * 3 + [False]
    found, _ = measure(monkeypatch, [conversation("a")], answer, lambda said: fits.pop(0))
    assert (found.document["turns"], found.document["cut_short"]) == (3, 1)
    assert value(found, "turns_repetition", "baseline") == value(found, "turns_repetition", "steered") == 0


def test_a_model_that_itself_says_nothing_leaves_the_metrics_undecidable(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = measure(monkeypatch, [conversation("a")], lambda first, turn, is_steered: "yes" if is_steered else "")
    assert found.document["conversations"] == 0
    gates = [{"metric": "turns_repetition", "kind": "max_difference", "threshold": "0.1"}]
    assert [(judged["verdict"], judged["code"]) for judged in judge_evidence(gates, found.metrics)] == [("undecidable", "TURNS_MISSING")]


@pytest.mark.parametrize(
    ("replies", "share"),
    [
        (["one two three four", "five six seven eight"], 0.0),
        (["one two three four five", "one two three four six"], 0.5),
        (["we will call you back today", "fine", "we will call you back today"], 1.0),
        (["a b", "c c c c c c"], 2 / 3),
        (["one two three four", "yes"], 0.0),
        (["yes", "no", "yes"], 1.0),
        (["one two three four five", ""], 1.0),
    ],
)
def test_what_was_said_before_is_counted_over_the_whole_conversation(replies: list[str], share: float) -> None:
    assert said_again(replies) == pytest.approx(share)


def test_evidence_holds_the_turns_that_a_gate_asks_for(tmp_path: Any) -> None:
    planted, suites = plant(tmp_path, 2), write_suites()
    candidate = make_candidate(extract_directions(planted.loaded, write_pairs(), layers=[planted.layer])[0], "0.5")
    gates = [{"metric": "turns_behaviour", "kind": "min", "threshold": "-0.5"}]
    with pytest.raises(EngineError, match="no fluency suite with conversations") as refused:
        Evaluation(planted.loaded, candidate, suites, CountWarmTokens(), gates, max_new_tokens=4).finish()
    assert refused.value.code == "GATE_UNMEASURED"
    suites["fluency"] = SuiteFile("fluency", (conversation("a", 3), conversation("b", 3)), "4" * 64)
    evidence = Evaluation(planted.loaded, candidate, suites, CountWarmTokens(), gates, max_new_tokens=4).finish().document
    assert evidence["turns"]["turns"] == 3
    assert set(evidence["metrics"]["turns_repetition"]) == {"baseline", "steered", "difference"}
