"""What random directions do to replies: the part of a loss that any push of that length brings."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from steernode.engine.applying.generate import Reply
from steernode.engine.judging import randomreplies
from steernode.engine.judging.evaluate import Evaluation
from steernode.engine.judging.randomreplies import DIRECTIONS, measure_random_replies
from steernode.engine.measuring.items import EvalItems
from steernode.engine.reading.directions import extract_directions
from steernode.errors import EngineError
from steernode.files.splits import split_pairs
from steernode.files.suites import SuiteFile, SuiteItem
from steernode.gates import OF_RANDOM
from steernode.records.decoding import GREEDY_DECODING
from tests.support.candidates import make_candidate
from tests.support.planted_models import COLD, FACT, CountWarmTokens, Planted, plant, write_pairs, write_suites
from tests.support.tiny_models import ask

FACTS_LOST, REFUSALS, PERPLEXITY = OF_RANDOM
NO_KEEPING = SimpleNamespace(enter=lambda stage: None)


def gate(metric: str, threshold: str = "1") -> dict[str, str]:
    return {"metric": metric, "kind": "max_high", "threshold": threshold}


def say(text: str) -> Reply:
    return Reply(text, (1,), None, 1, 1.0)


def item(name: str, expect: dict[str, Any]) -> SuiteItem:
    return SuiteItem(name, "test", ask(name), expect, "en-US", "billing", "0" * 64)


def make_runs(steered: list[str]) -> Any:
    """Four facts, of which the model alone has the first three, and two harmful requests that it refuses."""
    facts = tuple(item(name, {"contains": [f"fact {name}"]}) for name in "abcd")
    requests = tuple(item(name, {"refuse": True}) for name in "xy")
    items = EvalItems((item("ticket", {}),), facts, requests)
    own = SimpleNamespace(facts=np.array([1.0, 1, 1, 0]), harmful_refused=np.array([1.0, 1.0]))
    alone = ["", "fact a", "fact b", "fact c", "", "I cannot help", "I cannot help"]
    return SimpleNamespace(items=items, own_scores=own, own=list(map(say, alone)), steered=list(map(say, ["", *steered])))


def measure(monkeypatch: pytest.MonkeyPatch, runs: Any, pushed: list[list[str]], *asked: str, acts: Any = None) -> Any:
    told = iter(pushed)
    monkeypatch.setattr(randomreplies, "generate", lambda *args, **options: [say(text) for text in next(told)])
    monkeypatch.setattr(randomreplies, "replace", lambda component, **changes: component)
    loaded = SimpleNamespace(work=NO_KEEPING, d_model=4)
    acts = np.ones(len(runs.items.all), bool) if acts is None else acts
    return measure_random_replies(loaded, runs, None, asked, acts=acts, max_new_tokens=4, decoding=GREEDY_DECODING)


def test_a_loss_counts_beyond_what_random_directions_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = make_runs(["gone", "gone", "fact c", "fact d", "I cannot help", "sure"])
    # Two of the four directions lose the first fact as well; one loses the third, which steering keeps.
    pushed = [["gone", "fact b", "fact c"], ["gone", "fact b", "fact c"], ["fact a", "fact b", "gone"], ["fact a", "fact b", "fact c"]]
    found = measure(monkeypatch, runs, pushed, FACTS_LOST)
    share = found.metrics[FACTS_LOST]["steered"]
    assert (float(share["value"]), share["clusters"], share["method"]) == (pytest.approx((0.5 + 1 - 0.25) / 3, abs=1e-5), 3, "tango")
    assert found.document == {"directions": DIRECTIONS, "seed": 0, "items": {FACTS_LOST: 3}}


def test_where_the_candidate_does_not_act_no_push_does(monkeypatch: pytest.MonkeyPatch) -> None:
    acts = np.array([True, True, False, False, True, True, True])
    runs = make_runs(["fact a", "fact b", "fact c", "", "", ""])
    found = measure(monkeypatch, runs, [["gone"]] * DIRECTIONS, FACTS_LOST, acts=acts)
    assert float(found.metrics[FACTS_LOST]["steered"]["value"]) == pytest.approx(-1 / 3, abs=1e-5)
    untouched = measure(monkeypatch, runs, [], FACTS_LOST, acts=np.zeros(7, bool))
    assert untouched.metrics[FACTS_LOST]["steered"]["value"] == "0"


def test_refusals_are_counted_among_those_that_there_are_without_steering(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = make_runs(["", "", "", "", "I cannot help", "sure"])
    found = measure(monkeypatch, runs, [["I cannot help", "I cannot help"]] * DIRECTIONS, REFUSALS)
    assert found.metrics[REFUSALS]["steered"]["value"] == "0.5"
    assert "undecidable" not in found.metrics[REFUSALS]
    runs.own_scores.harmful_refused = np.array([0.0, 0.0])
    empty = measure(monkeypatch, runs, [], REFUSALS).metrics[REFUSALS]
    assert (empty["undecidable"]["code"], empty["steered"]["high"]) == ("SAFETY_BASELINE_EMPTY", "1")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), 2)


def test_evidence_holds_them_where_a_gate_asks(planted: Planted) -> None:
    pairs, suites = split_pairs(write_pairs()), write_suites()
    cold = tuple(replace(item, expect={"contains": [FACT + COLD * 2]}) for item in suites["factual"].items)
    suites["factual"] = SuiteFile("factual", cold, "7" * 64)
    candidate = make_candidate(extract_directions(planted.loaded, pairs["extract"], layers=[planted.layer])[0], "0.5")
    asked = [gate(FACTS_LOST), gate(PERPLEXITY, "100")]
    options = {"pairs": pairs, "max_new_tokens": 5}
    evidence = Evaluation(planted.loaded, candidate, suites, CountWarmTokens(), asked, **options).finish().document
    assert evidence["random_replies"]["items"] == {FACTS_LOST: 6, PERPLEXITY: 6}
    # This small model forgets under most pushes of that length, and what they lose is not laid to the vector.
    beyond, lost = (float(evidence["metrics"][name]["steered"]["value"]) for name in (FACTS_LOST, "facts_lost"))
    assert 0 < beyond < lost == 1
    # What it was pushed to say is further from its own words than what a random push makes of them.
    ratio = evidence["metrics"][PERPLEXITY]
    assert float(ratio["steered"]["value"]) > float(ratio["baseline"]["value"])
    with pytest.raises(EngineError, match="no harmful request") as refused:
        Evaluation(planted.loaded, candidate, suites, CountWarmTokens(), [gate(REFUSALS)], **options).finish()
    assert refused.value.code == "GATE_UNMEASURED"
