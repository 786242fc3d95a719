"""Evidence of replies that are drawn: several to an item, with the same noise on both sides, and an interval that knows whose they are."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
import torch

from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import generate
from steernode.engine.judging.answering import Answers
from steernode.engine.judging.evaluate import Evaluation
from steernode.engine.judging.runs import neutral_of
from steernode.engine.measuring.items import EvalItems
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.files.splits import split_pairs
from steernode.records.decoding import Decoding
from tests.support.candidates import make_candidate
from tests.support.planted_models import CountWarmTokens, Planted, plant, write_pairs, write_suites

PAIRS, SUITES = split_pairs(write_pairs()), write_suites()
DRAWN = Decoding(Decimal("0.7"), Decimal("0.95"), (3, 11, 12))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Less sure of what it says than other tests need it to be, so that there is something to draw."""
    planted = plant(tmp_path_factory.mktemp("planted"), 2)
    with torch.no_grad():
        planted.loaded.model.lm_head.weight.mul_(0.2)
    return planted


@pytest.fixture(scope="module")
def direction(planted: Planted) -> LayerDirection:
    return extract_directions(planted.loaded, PAIRS["extract"], layers=[planted.layer])[0]


@pytest.fixture(scope="module")
def evidence(planted: Planted, direction: LayerDirection) -> dict:
    candidate, options = make_candidate(direction, "0.5"), {"pairs": PAIRS, "max_new_tokens": 5, "decoding": DRAWN}
    return Evaluation(planted.loaded, candidate, SUITES, CountWarmTokens(), **options).finish().document


def test_the_evidence_names_how_its_replies_were_drawn(evidence: dict) -> None:
    assert evidence["run"]["decoding"] == {"temperature": "0.7", "top_p": "0.95", "seeds": [3, 11, 12]}
    assert evidence["items"] == {"behaviour": 6, "facts": 6, "refusals": 6}


def test_all_replies_to_an_item_are_one_cluster(evidence: dict) -> None:
    for name in ("behaviour", "facts", "refusals", "perplexity_ratio", "anti_steered", "repetition", "over_refusal"):
        for estimate in evidence["metrics"][name].values():
            if estimate["method"] != "fixed" or estimate["clusters"] != estimate["n"]:
                assert (estimate["n"], estimate["clusters"] <= 6) == (18, True), name
    # What is measured without writing replies is measured once.
    assert evidence["metrics"]["kl_last_prompt_token"]["steered"]["n"] == 12


def test_the_same_items_and_seeds_say_the_same_and_other_seeds_do_not(planted: Planted, direction: LayerDirection) -> None:
    items = EvalItems.of(SUITES, "test")
    component = make_candidate(direction, "0.5").component()
    runs = [
        Answers(planted.loaded, items, [component], CountWarmTokens(), max_new_tokens=5, decoding=decoding).finish()
        for decoding in (DRAWN, DRAWN, Decoding(DRAWN.temperature, DRAWN.top_p, (4, 5, 6)))
    ]
    said = [[reply.token_ids for reply in (*run.own, *run.steered)] for run in runs]
    assert said[0] == said[1]
    assert said[0] != said[2]
    # The three replies to an item are drawn apart.
    assert any(said[0][row] != said[0][row + 6] for row in range(6))


def test_an_items_noise_does_not_depend_on_what_stands_beside_it(planted: Planted) -> None:
    items = EvalItems.of(SUITES, "test")
    alone = EvalItems(items.behaviour[2:3], items.facts[:1], items.refusals[:1]).repeated(3)
    whole = items.repeated(3)
    [drawn], both = generate(planted.loaded, alone.conversations[:1], max_new_tokens=5, sampling=alone.sampling(DRAWN)[:1]), generate(
        planted.loaded, whole.conversations, max_new_tokens=5, sampling=whole.sampling(DRAWN)
    )  # fmt: skip
    assert drawn.token_ids == both[2].token_ids


def test_at_zero_both_sides_are_the_same_replies_and_nothing_is_lost(planted: Planted, direction: LayerDirection) -> None:
    still = Component(torch.as_tensor(direction.direction), direction.layer, 0.0)
    run = Answers(planted.loaded, EvalItems.of(SUITES, "test"), [still], CountWarmTokens(), max_new_tokens=5, decoding=DRAWN).finish()
    assert [reply.token_ids for reply in run.own] == [reply.token_ids for reply in run.steered]
    assert all(loss.lost == 0 for loss in run.losses.values())
    np.testing.assert_array_equal(run.own_scores.behaviour, run.steered_scores.behaviour)
    assert len(run.side_by_side()) == 6
    conversations, replies = neutral_of(run.items, run.own)
    assert len(conversations) == len(replies) == 12
    assert len({tuple(conversation) for conversation in conversations}) == 12
