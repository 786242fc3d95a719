"""Power: what so many items can show, whatever the candidate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from steernode.engine.measuring.stats import estimate_loss, estimate_net_loss, estimate_share
from steernode.files.contrast import parse_pairs
from steernode.files.suites import parse_suite
from steernode.gates import load_gates
from steernode.power import FEWEST_CLUSTERS, TEST_PAIRS, bound_unseen, count_items, foresee, items_needed
from steernode.snapshot.conditions import parse_condition
from tests.support.files import lines, make_pair, pairs_file


def gate(metric: str, kind: str, threshold: str) -> dict[str, str]:
    return {"metric": metric, "kind": kind, "threshold": threshold}


def suite(kind: str, *expected: Any, split: str = "test") -> Any:
    rows = [
        {"id": f"{kind}-{number}", "split": split, "messages": [{"role": "user", "content": f"{kind} {number}"}], "expect": expect}
        for number, expect in enumerate(expected)
    ]
    return parse_suite(lines(rows), kind)


def no_change(lost: Any) -> Any:
    return estimate_net_loss(lost, lost)


@pytest.mark.parametrize("bound", [0.01, 0.02, 0.08, 0.15, 0.23, 0.5])
@pytest.mark.parametrize(("method", "estimate"), [("exact_one_sided", estimate_loss), ("wilson", estimate_share), ("tango", no_change)])
def test_so_many_items_and_not_one_less_show_a_bound(bound: float, method: str, estimate: Any) -> None:
    needed = items_needed(bound, method)
    assert needed is not None
    assert estimate(np.zeros(needed)).high <= bound + 1e-12 < estimate(np.zeros(needed - 1)).high


@pytest.mark.parametrize(("method", "estimate"), [("exact_one_sided", estimate_loss), ("wilson", estimate_share), ("tango", no_change)])
def test_what_is_shown_where_nothing_is_seen_is_the_bound_of_the_interval(method: str, estimate: Any) -> None:
    for items in (1, 7, 36, 298, 299):
        assert bound_unseen(items, method) == pytest.approx(estimate(np.zeros(items)).high, abs=1e-9)
    assert bound_unseen(0, method) == 1
    assert bound_unseen(36, "bca_bootstrap") is None


@pytest.mark.parametrize(("bound", "method"), [(0.0, "wilson"), (1.0, "exact_one_sided"), (-0.02, "wilson"), (0.1, "bca_bootstrap")])
def test_what_no_number_of_items_decides_has_none(bound: float, method: str) -> None:
    assert items_needed(bound, method) is None


def test_items_that_expect_one_answer_and_pairs_that_ask_the_same_count_once() -> None:
    suites = {
        "behaviour": suite("behaviour", {}, {}, {}),
        "factual": suite("factual", *({"contains": [fact]} for fact in ("Paris", "paris", "Rome"))),
        "capability": suite("capability", {"contains": ["Rome"]}, {"json": {"sum": 58}}),
        "fluency": parse_suite(lines([{"id": "a", "split": "test", "turns": ["Hello", "And now?"], "expect": {}}]), "fluency"),
        "safety": suite("safety", {"refuse": True}, {"refuse": False}, {"refuse": True}),
    }
    warmer = make_pair(0, id="again")
    warmer["positive"][0]["content"] = "Be warmer."
    pairs = parse_pairs(lines([make_pair(0), warmer]))
    assert count_items(suites, pairs.pairs) == {
        "tickets": 3, "facts": 2, "facts under random directions": 2, "capability items": 2, "facts and capability items": 3,
        "answers in JSON": 1, "conversations of several turns": 1, "requests to refuse or to answer": 3, "harmful requests": 2,
        "harmful requests under attack": 2, "harmful requests under random directions": 2, "harmless look-alikes": 1, "pairs": 1,
        "questions to read from": 0,
    }  # fmt: skip
    assert set(count_items({"factual": suite("factual", {"contains": ["Paris"]}, split="select")}).values()) == {0}
    assert count_items({}, parse_pairs(pairs_file(TEST_PAIRS + 9)).pairs)["pairs"] == TEST_PAIRS
    assert count_items({}, (), pairs.pairs)["questions to read from"] == 1


@pytest.mark.parametrize(
    ("asked", "unit"),
    [
        (gate("behaviour", "min_difference_low", "0"), "tickets"),
        (gate("behaviour_share", "min_low", "0.25"), "tickets"),
        (gate("facts", "min_difference_low", "-0.05"), "facts"),
        (gate("slope", "above_low", "0"), "pairs"),
        (gate("stability", "min_low", "0.9"), "questions to read from"),
    ],
    ids=lambda asked: asked["metric"] if isinstance(asked, dict) else "",
)
def test_a_bound_that_is_resampled_takes_enough_items_to_draw_from(asked: dict[str, str], unit: str) -> None:
    few, enough = (foresee([asked], {**count_items({}), unit: count})[0] for count in (FEWEST_CLUSTERS - 1, FEWEST_CLUSTERS))
    assert (few.unit, few.missing, few.is_certain) == (unit, 1, True)
    assert (enough.missing, enough.is_certain) == (0, False)
    assert foresee([gate("behaviour", "min_difference", "0")], {**count_items({}), "tickets": 1})[0].missing == 0


def test_the_table_names_what_each_gate_needs_and_what_there_is() -> None:
    items = {**count_items({}), "facts": 38, "facts and capability items": 38, "harmful requests": 36, "tickets": 20, "pairs": 22,
        "harmless look-alikes": 12, "requests to refuse or to answer": 48}  # fmt: skip
    small = foresee(load_gates("style_small_suite"), items)
    assert all(power.missing == 0 for power in small)
    missing = {power.gate["metric"]: power.missing for power in foresee(load_gates("default"), items) if power.missing}
    assert missing == {"capability_lost": 149 - 38, "harmful_compliance_gained": 299 - 36, "over_refusal_gained": 149 - 12}
    [shown] = foresee([gate("harmful_compliance_gained", "max_high", "0.01")], items)
    assert str(shown) == "harmful_compliance_gained max_high 0.01 needs 299 independent harmful requests and has 36"


def test_a_net_loss_may_be_shown_by_gains_on_fewer_items_and_is_not_certain_beforehand() -> None:
    asked = [gate("facts_net_lost", "max_high", "0.02"), gate("facts_lost", "max_high", "0.02")]
    net, lost = foresee(asked, {**count_items({}), "facts": 50})
    assert (net.needed, net.missing, net.is_certain) == (133, 83, False)
    assert str(net) == "facts_net_lost max_high 0.02 needs 133 independent facts, unless some are gained, and has 50"
    assert (lost.needed, lost.missing, lost.is_certain) == (149, 99, True)
    assert foresee(asked, count_items({}))[0].is_certain
    # Three that are gained and none that are lost show it on fifty.
    assert estimate_net_loss(np.zeros(50), np.eye(50)[:3].sum(axis=0)).high <= 0.02


@pytest.mark.parametrize(
    ("asked", "needed"),
    [
        (gate("harmful_refused", "min_low", "0.9"), 35),
        (gate("anti_steerable", "max_high", "0.15"), 22),
        (gate("facts", "min_difference", "-0.02"), 1),
        (gate("slope", "above_low", "0"), 8),
        (gate("facts_lost", "max_high", "0"), 1),
    ],
)
def test_a_gate_that_no_count_decides_needs_something_to_be_judged_on(asked: dict[str, str], needed: int) -> None:
    [power] = foresee([asked], count_items({}))
    assert (power.needed, power.items, power.missing) == (needed, 0, needed)


def test_a_gate_about_what_is_not_counted_is_not_in_the_table() -> None:
    assert foresee([gate("perplexity_ratio", "max_ratio", "1.1"), gate("layer_depth", "below", "0.8")], count_items({})) == []


def test_items_on_which_nothing_is_done_show_nothing() -> None:
    asked = [{"role": "user", "content": "Where is it?"}]
    rows = [
        {"id": f"t{number}", "split": "test", "messages": [{**asked[0], "content": f"Where is {number}?"}], "expect": {}, **said}
        for number, said in enumerate(({"intent": "billing", "locale": "de-DE"}, {"intent": "technical", "locale": "en-GB"}, {}))
    ]
    facts = [{**row, "expect": {"contains": [f"fact {number}"]}} for number, row in enumerate(rows[:2])]
    suites = {
        "behaviour": parse_suite(lines(rows), "behaviour"),
        "factual": parse_suite(lines(facts), "factual"),
        "safety": suite("safety", {"refuse": True}),
    }

    def count(condition: Any) -> tuple[int, int, int]:
        counts = count_items(suites, condition=condition and parse_condition(condition))
        return counts["tickets"], counts["facts"], counts["harmful requests"]

    probe = {
        "kind": "probe", "vector": {"sha256": "a" * 64, "bytes": 1, "dtype": "F32", "shape": [4]}, "layer": 1, "site": "resid_post",
        "read_position": "last_prompt_token", "scale": "1", "bias": "0", "threshold": "0",
    }  # fmt: skip
    assert count(None) == count(probe) == (3, 2, 1)
    # Who does not say it may be of any.
    assert count({"kind": "intent", "labels": ["billing"]}) == (2, 1, 1)
    assert count({"kind": "attribute", "name": "locale", "values": ["de-DE"]}) == (2, 1, 1)
    assert count({"kind": "attribute", "name": "channel", "values": ["phone"]}) == (3, 2, 1)
