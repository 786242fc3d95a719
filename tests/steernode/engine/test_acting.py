"""A candidate with a condition is judged where it acts, and what it does not touch counts for nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from steernode.engine.applying.components import Component, group_acting
from steernode.engine.judging.acting import count_acting, find_acting, keep_acting, serve_suites
from steernode.engine.judging.answering import Answers
from steernode.engine.judging.evaluate import Evaluation
from steernode.engine.judging.runs import Metrics, neutral_rows
from steernode.engine.measuring.gates import judge_evidence
from steernode.engine.measuring.items import EvalItems
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.errors import EngineError
from steernode.files.splits import split_pairs
from steernode.files.suites import SuiteFile
from steernode.records.decoding import Decoding, read_decoding
from steernode.snapshot.conditions import parse_condition
from tests.support.candidates import make_candidate
from tests.support.planted_models import WARM_SYSTEM, CountWarmTokens, Planted, plant, write_pairs, write_suites

PAIRS = split_pairs(write_pairs())
BILLING = {"kind": "intent", "labels": ["billing"]}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), 2)


@pytest.fixture(scope="module")
def direction(planted: Planted) -> LayerDirection:
    return extract_directions(planted.loaded, PAIRS["extract"], layers=[planted.layer])[0]


def labelled(intents: dict[str, list[str]]) -> dict[str, SuiteFile]:
    """The suites of the planted model with these intents, in turn, by kind."""
    suites = write_suites()
    for kind, labels in intents.items():
        items = [replace(item, intent=labels[index % len(labels)]) for index, item in enumerate(suites[kind].split("test"))]
        suites[kind] = replace(suites[kind], items=tuple(items))
    return suites


SUITES = labelled({"behaviour": ["billing", "technical"], "factual": ["general", "billing", ""]})


def items_of(suites: dict[str, SuiteFile]) -> EvalItems:
    return EvalItems.of(suites, "test")


def test_a_condition_holds_by_what_items_say_and_never_spares_what_may_be_refused(planted: Planted, direction: LayerDirection) -> None:
    items = items_of(SUITES)
    candidate = make_candidate(direction, "0.5", condition=BILLING)
    acts = find_acting(planted.loaded, candidate, items.all)
    said = [item.intent for item in items.all]
    for item, intent, is_acted_on in zip(items.all, said, acts, strict=True):
        assert is_acted_on == (intent in ("billing", "") or "refuse" in item.expect)
    assert find_acting(planted.loaded, make_candidate(direction, "0.5"), items.all).all()
    locale = make_candidate(direction, "0.5", condition={"kind": "attribute", "name": "locale", "values": ["de-DE"]})
    assert find_acting(planted.loaded, locale, items.all).sum() == len(items.refusals)
    # What an item does not say may be anything.
    unsaid = [replace(item, locale="") for item in items.all]
    assert find_acting(planted.loaded, locale, unsaid).all()
    channel = make_candidate(direction, "0.5", condition={"kind": "attribute", "name": "channel", "values": ["phone"]})
    assert find_acting(planted.loaded, channel, items.all).all()


def test_a_probe_decides_item_by_item(planted: Planted, direction: LayerDirection) -> None:
    probe: dict[str, Any] = {
        "kind": "probe", "vector": {"sha256": "a" * 64, "bytes": 1, "dtype": "F32", "shape": [planted.loaded.d_model]}, "layer": 1,
        "site": "resid_post", "read_position": "last_prompt_token", "scale": "1", "bias": "0", "threshold": "0",
    }  # fmt: skip
    items = items_of(SUITES)
    without = make_candidate(direction, "0.5", condition=probe)
    with pytest.raises(EngineError) as refused:
        find_acting(planted.loaded, without, items.all)
    assert refused.value.code == "PROBE_MISSING"
    drawn = torch.nn.functional.normalize(torch.randn(planted.loaded.d_model, generator=torch.Generator().manual_seed(0)), dim=0)
    one, other = (find_acting(planted.loaded, replace(without, probe=sign * drawn), items.all) for sign in (1, -1))
    asked = len(items.all) - len(items.refusals)
    plain = np.array(["refuse" not in item.expect for item in items.all])
    assert one[plain].sum() + other[plain].sum() == asked
    assert one[~plain].all()
    assert other[~plain].all()


def test_what_is_not_acted_on_is_not_judged() -> None:
    items = items_of(SUITES)
    acts = np.array([item.intent in ("billing", "") for item in items.all])
    kept, rest = keep_acting(items, acts)
    assert rest.all()
    assert len(rest) == len(kept.all)
    assert {item.intent for item in kept.behaviour} == {"billing"}
    assert {item.intent for item in kept.facts} == {"billing", ""}
    assert kept.refusals == items.refusals
    assert count_acting(items, acts)["facts"] == {"items": len(items.facts), "acts_on": len(kept.facts)}
    assert keep_acting(items, np.ones(len(items.all), np.bool_))[0] == items
    with pytest.raises(EngineError) as refused:
        keep_acting(items, np.zeros(len(items.all), np.bool_))
    assert refused.value.code == "CONDITION_NEVER"


def test_facts_of_other_intents_show_no_bound(planted: Planted, direction: LayerDirection) -> None:
    """However many there are: none of them is asked under steering."""
    wanted = [("facts_net_lost", "max_high", "0.9"), ("facts_lost", "max", "0.08"), ("facts", "min_difference", "-0.05"),
        ("capability_lost", "max_high", "0.9"), ("facts_lost_over_random", "max_high", "0.9"),
        ("capability", "min", "0")]  # fmt: skip
    gates = [{"metric": metric, "kind": kind, "threshold": threshold} for metric, kind, threshold in wanted]
    suites = labelled({"factual": ["geo"], "behaviour": ["billing"]})
    suites["capability"] = replace(suites["factual"], kind="capability")
    candidate = make_candidate(direction, "0.5", condition=BILLING)
    evidence = Evaluation(planted.loaded, candidate, suites, CountWarmTokens(), gates, max_new_tokens=5).finish().document
    assert [(gate["metric"], gate["verdict"], gate["code"]) for gate in evidence["gates"]] == [
        (metric, "undecidable", "ITEMS_FEW") for metric, _, _ in wanted
    ]
    assert evidence["acting"]["facts"] == {"items": 6, "acts_on": 0}
    assert evidence["items"]["facts"] == 0
    # The harmless requests are left to read the next tokens on.
    assert evidence["metrics"]["kl_p95"]["steered"]["n"] == evidence["items"]["refusals"]


def test_how_far_the_next_tokens_move_is_of_what_is_acted_on(planted: Planted, direction: LayerDirection) -> None:
    """Most facts are untouched, and none of their zeros is pooled."""
    gates = [{"metric": "kl_p95", "kind": "max", "threshold": "1"}, {"metric": "kl_over_prompt", "kind": "max", "threshold": "100"}]
    candidate = make_candidate(direction, "0.5", condition=BILLING)

    def measure(intents: list[str]) -> Metrics:
        asked = items_of(labelled({"behaviour": ["billing"], "factual": intents}))
        harmful = tuple(replace(item, expect={"refuse": True}) for item in asked.refusals[:1])
        asked = EvalItems(asked.behaviour[:1], asked.facts, harmful)
        kept, acts = keep_acting(asked, find_acting(planted.loaded, candidate, asked.all))
        component, options = candidate.component(), {"max_new_tokens": 3, "systems": [WARM_SYSTEM], "acts": acts}
        return Answers(planted.loaded, kept, [component], CountWarmTokens(), **options).finish().metrics

    moved = measure(["billing", *["geo"] * 5])["kl_p95"]["steered"]
    assert moved["n"] == 1
    assert float(moved["value"]) > 0
    judged = judge_evidence(gates, measure(["geo"]))
    assert [(gate["verdict"], gate["code"]) for gate in judged] == [("undecidable", "ITEMS_FEW")] * 2


@pytest.mark.parametrize("decoding", ["greedy", {"temperature": "1", "top_p": "1", "seeds": [1, 2]}])
def test_elsewhere_the_model_s_own_reply_stands(planted: Planted, direction: LayerDirection, decoding: Any) -> None:
    way: Decoding = read_decoding(decoding, "decoding")
    items = items_of(SUITES)
    component = Component(direction.direction, direction.layer, 0.5 * direction.norm)
    acts = np.array([index % 2 == 0 for index in range(len(items.all))])
    part = Answers(planted.loaded, items, [component], CountWarmTokens(), max_new_tokens=5, decoding=way, acts=acts).finish()
    whole = Answers(planted.loaded, items, [component], CountWarmTokens(), max_new_tokens=5, decoding=way).finish()
    rows = items.repeat_rows(acts, way.replies_per_item)
    for row, is_acted_on in enumerate(rows):
        assert part.steered[row].token_ids == (whole if is_acted_on else part).own[row].token_ids or is_acted_on
        assert part.steered[row].token_ids == (whole.steered[row] if is_acted_on else whole.own[row]).token_ids
    nowhere = np.zeros(len(items.all), np.bool_)
    quiet = Answers(planted.loaded, items, [component], CountWarmTokens(), max_new_tokens=5, acts=nowhere).finish()
    assert quiet.divergence.tokens.sum() == quiet.divergence.last_prompt_token.sum() == 0


def test_to_each_item_those_reply_whose_conditions_hold(planted: Planted, direction: LayerDirection) -> None:
    items = items_of(SUITES)
    one, other = (Component(direction.direction, direction.layer, factor * direction.norm) for factor in (0.5, -0.5))
    acts = np.array([[index % 2 == 0, index % 3 == 0] for index in range(len(items.all))])
    both = Answers(planted.loaded, items, [one, other], CountWarmTokens(), max_new_tokens=5, acts=acts).finish()
    alone = {
        wanted: Answers(planted.loaded, items, components, CountWarmTokens(), max_new_tokens=5).finish()
        for wanted, components in (((True, False), [one]), ((False, True), [other]), ((True, True), [one, other]))
    }
    neutral, place = neutral_rows(items), 0
    for row, wanted in enumerate(map(tuple, acts.tolist())):
        expected = alone[wanted].steered if any(wanted) else both.own
        assert both.steered[row].token_ids == expected[row].token_ids
        if row in neutral:
            moved = alone[wanted].divergence.last_prompt_token[place] if any(wanted) else 0.0
            assert both.divergence.last_prompt_token[place] == pytest.approx(moved, rel=1e-4, abs=1e-6)
            place += 1
    groups = group_acting([one, other], acts)
    assert sorted(row for rows, _ in groups for row in rows) == [row for row, some in enumerate(acts) if some.any()]
    assert [len(acting) for _, acting in groups] == [1, 1, 2]


def test_tickets_are_kept_on_which_one_of_several_acts() -> None:
    items = items_of(SUITES)
    acts = np.zeros((len(items.all), 2), np.bool_)
    acts[0, 0] = acts[1] = True
    kept, rest = keep_acting(items, acts)
    assert (kept.behaviour, rest[:2].tolist()) == (items.behaviour[:2], [[True, False], [True, True]])
    assert rest.shape == (len(kept.all), 2)
    assert count_acting(items, acts)["behaviour"]["acts_on"] == 2


def test_a_search_reads_the_tickets_and_facts_on_which_the_condition_holds_as_they_are_served(planted: Planted) -> None:
    suites = write_suites()
    for kind in ("behaviour", "factual"):
        said = [replace(item, intent=("billing", "technical")[place // 2 % 2]) for place, item in enumerate(suites[kind].items)]
        suites[kind] = replace(suites[kind], items=tuple(said))
    served = serve_suites(planted.loaded, suites, "Serve Harbor.", parse_condition(BILLING))
    for kind in ("behaviour", "factual"):
        select, before = served[kind].split("select"), suites[kind].split("select")
        assert [item.id for item in select] == [item.id for item in before if item.intent == "billing"] != [item.id for item in before]
        assert len(served[kind].split("test")) == len(suites[kind].split("test"))
    for kind, suite in served.items():
        assert suite.digest == suites[kind].digest
        assert {item.messages[0].content for item in suite.items} == {"Serve Harbor."}
    assert len(served["safety"].items) == len(suites["safety"].items)
    assert serve_suites(planted.loaded, suites, "", None) == suites
    none = replace(suites["factual"], items=tuple(replace(item, intent="technical") for item in suites["factual"].items))
    assert serve_suites(planted.loaded, suites | {"factual": none}, "", parse_condition(BILLING))["factual"] == none
    with pytest.raises(EngineError) as refused:
        serve_suites(planted.loaded, suites, "", parse_condition({**BILLING, "labels": ["refund"]}))
    assert refused.value.code == "CONDITION_NEVER"


def test_the_evidence_of_a_conditional_profile_leaves_other_intents_untouched(planted: Planted, direction: LayerDirection) -> None:
    gates = [{"metric": "behaviour", "kind": "min_difference", "threshold": "0.5"}]
    candidate = make_candidate(direction, "0.5", condition=BILLING)
    options = {"pairs": PAIRS, "max_new_tokens": 5, "system_message": "Serve Harbor."}
    evidence = Evaluation(planted.loaded, candidate, SUITES, CountWarmTokens(), gates, **options).finish().document
    assert evidence["candidate"]["condition"] == BILLING
    assert evidence["acting"]["behaviour"] == {"items": 6, "acts_on": 3}
    assert evidence["acting"]["facts"]["acts_on"] == 4
    assert evidence["items"]["behaviour"] == 3
    assert evidence["items"]["facts"] == evidence["metrics"]["facts"]["steered"]["n"] == 4
    assert evidence["run"]["system_message"] == "Serve Harbor."
    assert evidence["replies"][0]["messages"][0] == {"role": "system", "content": "Serve Harbor."}
    assert evidence["verdict"] == "pass"
