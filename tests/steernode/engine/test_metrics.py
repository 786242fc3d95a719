"""What is measured on replies, and with what certainty."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steernode.engine.access.encoding import encode_prompt
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.generate import Reply, generate
from steernode.engine.measuring.items import EvalItems
from steernode.engine.measuring.metrics import measure_surprisal, repetition
from steernode.engine.measuring.rubric import RubricScorer
from steernode.engine.measuring.stats import estimate_mean, estimate_perplexity, estimate_perplexity_ratio, estimate_share
from steernode.errors import EngineError, SuiteError
from steernode.files.suites import RubricExample, SuiteFile, parse_suite
from tests.support.tiny_models import ask


def test_repetition_is_zero_for_prose_and_near_one_for_a_stuck_model() -> None:
    assert repetition("the late fee is fifteen dollars") == 0
    assert repetition("so sorry " * 50) > 0.9
    assert repetition("") == 0


def test_surprisal_is_the_model_s_own_cross_entropy_of_each_reply(any_model: LoadedModel) -> None:
    conversations = [ask("the bill is late"), ask("hi"), ask("refund", "warm")]
    replies = generate(any_model, conversations, max_new_tokens=7)
    replies[1] = Reply("ab", (71, 72), 6, 5, 1.0)
    nats, tokens = measure_surprisal(any_model, conversations, replies)
    for index, (conversation, reply) in enumerate(zip(conversations, replies, strict=True)):
        prompt = encode_prompt(any_model, conversation).token_ids
        ids = torch.tensor([[*prompt, *reply.scored_token_ids]])
        with torch.inference_mode():
            logits = any_model.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        expected = torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :], reduction="sum")
        assert nats[index] == pytest.approx(expected.item(), rel=1e-4)
        assert tokens[index] == len(reply.scored_token_ids)
    assert tokens[1] == 3


def test_an_empty_reply_still_has_a_perplexity(llama: LoadedModel) -> None:
    nats, tokens = measure_surprisal(llama, [ask("hi")], [Reply("", (), 6, 5, 1.0)])
    assert tokens.tolist() == [1]
    assert nats[0] > 0


def test_a_perplexity_ratio_weighs_replies_by_their_tokens() -> None:
    own = (np.array([1.0, 10.0]), np.array([10.0, 10.0]))
    steered = (np.array([2.0, 30.0]), np.array([10.0, 30.0]))
    assert estimate_perplexity(*own).value == pytest.approx(math.exp(11 / 20))
    assert estimate_perplexity_ratio(steered, own).value == pytest.approx(math.exp(32 / 40 - 11 / 20))


def test_intervals_repeat_and_hold_the_estimate() -> None:
    values = np.random.default_rng(1).normal(3.0, 1.0, 200)
    one, two = estimate_mean(values), estimate_mean(values)
    assert one == two
    assert one.low < one.value < one.high
    assert one.high - one.low == pytest.approx(2 * 1.96 / math.sqrt(200), rel=0.2)


def test_a_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(60):
        estimate = estimate_mean(rng.exponential(1.0, 50))
        hits += estimate.low <= 1.0 <= estimate.high
    assert hits >= 50


def test_nothing_varies_means_no_interval_and_no_warning() -> None:
    same = estimate_mean(np.full(20, 0.5))
    assert (same.low, same.value, same.high) == (0.5, 0.5, 0.5)
    nats, tokens = np.random.default_rng(0).random((2, 20)) + 1
    ratio = estimate_perplexity_ratio((nats, tokens), (nats, tokens))
    assert (ratio.low, ratio.value, ratio.high) == (1, 1, 1)


@settings(max_examples=30, deadline=None)
@given(hits=st.integers(0, 30), misses=st.integers(0, 30))
def test_a_share_and_its_interval_stay_between_zero_and_one(hits: int, misses: int) -> None:
    values = np.array([1.0] * hits + [0.0] * misses)
    if not len(values):
        with pytest.raises(EngineError) as refused:
            estimate_share(values)
        assert refused.value.code == "NOTHING_MEASURED"
        return
    estimate = estimate_share(values)
    assert 0 <= estimate.low <= estimate.value + 1e-12
    assert estimate.value <= estimate.high + 1e-12 <= 1 + 2e-12
    assert estimate.low < estimate.high


def test_a_split_without_items_of_a_kind_is_refused_by_name() -> None:
    with pytest.raises(EngineError, match="factual") as refused:
        EvalItems.of({"factual": SuiteFile("factual", (), "0" * 64)} | {"behaviour": one_item_suite()}, "select")
    assert refused.value.code == "SUITE_MISSING"


def one_item_suite() -> SuiteFile:
    return parse_suite(
        b'{"id":"a","split":"select","messages":[{"role":"user","content":"hi"}],"expect":{},"locale":"en-US","product":"b"}', "behaviour"
    )


def rubric_examples(count: int = 12) -> list[RubricExample]:
    tones = {1: "the case is closed", 3: "we will look at it", 5: "so sorry, we care and gladly help"}
    return [RubricExample(f"{text} about item {index} today", score) for score, text in tones.items() for index in range(count)]


def test_the_rubric_scorer_learns_its_scale_and_says_how_well() -> None:
    scorer = RubricScorer.train(rubric_examples(), "empathy")
    low, high = scorer.score(["the case is closed about item 99", "so sorry, we care and gladly help with item 99"])
    assert low < 2
    assert high > 4
    assert float(scorer.description["held_out"]["accuracy"]) > 0.9
    assert scorer.score([]).tolist() == []


def test_the_rubric_scorer_is_the_same_every_time_it_is_trained() -> None:
    texts = ["gladly", "closed", "we will look"]
    one, two = (RubricScorer.train(rubric_examples(), "empathy") for _ in range(2))
    assert one.description == two.description
    assert one.score(texts).tolist() == two.score(texts).tolist()


@pytest.mark.parametrize("examples", [[], rubric_examples(2), [RubricExample(f"text {index}", 3) for index in range(9)]])
def test_a_rubric_with_too_few_examples_is_refused(examples: list[RubricExample]) -> None:
    with pytest.raises(SuiteError) as refused:
        RubricScorer.train(examples, "empathy")
    assert refused.value.code == "RUBRIC_TOO_FEW"
