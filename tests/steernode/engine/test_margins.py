"""Contrast margins from neutral prompts, and the split that keeps what asks the same together."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from steernode.engine.access.encoding import encode_prompt
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import generate
from steernode.engine.judging.doseresponse import change_system
from steernode.engine.measuring.margins import MarginItem, margin_items, margin_slopes, measure_margins
from steernode.errors import EngineError
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message, prompt_key
from steernode.files.splits import split_pairs
from tests.support.tiny_models import TEMPLATE, ask, make_answered_pair, make_pair, make_pairs


def pair_of(name: str, positive: tuple, negative: tuple) -> ContrastPair:
    return ContrastPair(name, positive, negative, "en-US", "billing", "0" * 64)


def test_pairs_that_differ_in_nothing_the_model_says_are_refused_when_none_is_left(llama: LoadedModel) -> None:
    same = pair_of("same", (*ask("late", "warm"), Message("assistant", "sorry")), (*ask("late", "cold"), Message("assistant", "sorry")))
    with pytest.raises(EngineError) as refused:
        margin_items(llama, [same])
    assert refused.value.code == "MARGIN_EMPTY"
    assert [item.id for item in margin_items(llama, [same, make_answered_pair("good", "late")])] == ["good"]


def test_a_pair_answered_on_one_side_only_is_named(llama: LoadedModel) -> None:
    lopsided = pair_of("lopsided", (*ask("late"), Message("assistant", "sorry")), ask("late"))
    with pytest.raises(EngineError) as refused:
        margin_items(llama, [make_pair("good", "late"), lopsided])
    assert (refused.value.code, refused.value.item) == ("CONVERSATION_ROLE", "lopsided")


def test_a_pair_over_the_context_length_is_named(llama: LoadedModel) -> None:
    with pytest.raises(EngineError) as refused:
        margin_items(llama, [make_answered_pair("good", "late"), make_answered_pair("endless", "late " * 40)])
    assert (refused.value.code, refused.value.item) == ("CONTEXT_LENGTH", "endless")


def test_margins_of_nothing_are_refused(llama: LoadedModel) -> None:
    with pytest.raises(EngineError) as refused:
        measure_margins(llama, [], [()])
    assert refused.value.code == "MARGIN_EMPTY"


def test_answers_become_the_completions_of_the_conversation_before_them(llama: LoadedModel) -> None:
    [item] = margin_items(llama, [make_answered_pair("pair", "late fee")])
    assert item.prompt == encode_prompt(llama, ask("late fee")).token_ids
    texts = [llama.tokenizer.decode(ids) for ids in (item.positive, item.negative)]
    assert texts == ["sorry, we help<|end|>", "declined<|end|>"]
    [short] = margin_items(llama, [make_answered_pair("pair", "late fee")], max_new_tokens=3)
    assert (short.positive, short.negative) == (item.positive[:3], item.negative[:3])


@pytest.mark.parametrize("opening", ["<think>\n", "[THINK]", "\n<|begin_of_thought|>\n", "<think>\n</think>\n\n<answer>"])
def test_a_generation_prompt_that_opens_a_block_leaves_answers_outside_of_it(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch, opening: str
) -> None:
    monkeypatch.setattr(
        llama.tokenizer, "chat_template", TEMPLATE.replace("'<|assistant|>' }}{% endif %}", f"'<|assistant|>{opening}' }}}}{{% endif %}}")
    )
    pair = make_answered_pair("pair", "late fee")
    [item] = margin_items(llama, [pair], mark_assistant=True)
    assert llama.tokenizer.decode(item.prompt) == "<|user|>late fee<|end|><|assistant|>"
    assert len(item.assistant) == len(item.prompt)
    texts = [llama.tokenizer.decode(ids) for ids in (item.positive, item.negative)]
    assert texts == ["sorry, we help<|end|>", "declined<|end|>"]
    [moved] = change_system(llama, [item], [pair])
    assert llama.tokenizer.decode(moved.prompt).endswith("late fee<|end|><|assistant|>")


@pytest.mark.parametrize("closed", ["<think>\n\n</think>\n\n", "[THINK][/THINK]", "<|begin_of_thought|><|end_of_thought|>", " So:"])
def test_what_a_generation_prompt_closes_stands_before_the_answers(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    monkeypatch.setattr(
        llama.tokenizer, "chat_template", TEMPLATE.replace("'<|assistant|>' }}{% endif %}", f"'<|assistant|>{closed}' }}}}{{% endif %}}")
    )
    [item] = margin_items(llama, [make_answered_pair("pair", "late fee")])
    assert item.prompt == encode_prompt(llama, ask("late fee")).token_ids
    assert llama.tokenizer.decode(item.prompt).endswith(closed)
    assert [llama.tokenizer.decode(ids) for ids in (item.positive, item.negative)] == ["sorry, we help<|end|>", "declined<|end|>"]


def test_a_template_that_changes_what_was_said_before_an_answer_is_refused(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    moody = "{{ 'new ' if messages[-1]['role'] == 'assistant' else 'old ' }}" + TEMPLATE
    monkeypatch.setattr(llama.tokenizer, "chat_template", moody)
    with pytest.raises(EngineError) as refused:
        margin_items(llama, [make_answered_pair("pair", "late fee")])
    assert (refused.value.code, refused.value.item) == ("TEMPLATE_PREFIX", "pair")


def test_a_system_contrast_becomes_the_models_own_replies_to_a_neutral_question(llama: LoadedModel) -> None:
    pair = make_pair("pair", "late fee")
    [item] = margin_items(llama, [pair], max_new_tokens=5)
    replies = generate(llama, [pair.positive, pair.negative], max_new_tokens=5)
    assert item.prompt == encode_prompt(llama, ask("late fee")).token_ids
    assert (item.positive, item.negative) == tuple(reply.scored_token_ids for reply in replies)
    assert (item.locale, item.product, item.cluster) == ("en-US", "billing", prompt_key(pair.positive))


def test_different_questions_are_judged_on_the_negative_one(llama: LoadedModel) -> None:
    [item] = margin_items(llama, [pair_of("pair", ask("refund now"), ask("thank you"))], max_new_tokens=4)
    assert item.prompt == encode_prompt(llama, ask("thank you")).token_ids


def test_margins_are_the_log_odds_of_the_two_completions(any_model: LoadedModel) -> None:
    items = margin_items(any_model, [make_answered_pair(f"pair-{index}", "late fee " * (1 + index)) for index in range(3)])
    direction = torch.nn.functional.normalize(torch.randn(any_model.d_model, generator=torch.Generator().manual_seed(0)), dim=0)
    measured = measure_margins(any_model, items, [(), [Component(direction, 1, 2.0)]])

    def log_likelihood(item: MarginItem, completion: tuple[int, ...]) -> float:
        ids = torch.tensor([[*item.prompt, *completion]])
        scores = torch.log_softmax(any_model.model(input_ids=ids).logits[0, len(item.prompt) - 1 : -1].double(), dim=-1)
        return float(scores.gather(1, torch.tensor(completion)[:, None]).sum())

    expected = [log_likelihood(item, item.positive) - log_likelihood(item, item.negative) for item in items]
    np.testing.assert_allclose(measured[0], expected, atol=2e-4)
    assert (measured[1] != measured[0]).all()


def test_the_slope_of_a_line_is_its_slope() -> None:
    alphas = [0.0, 0.25, 1.0]
    margins = np.array([[3.0 * alpha + 1, -2.0 * alpha] for alpha in alphas])
    np.testing.assert_allclose(margin_slopes(alphas, margins), [3.0, -2.0])
    with pytest.raises(EngineError) as refused:
        margin_slopes([0.5, 0.5], margins[:2])
    assert refused.value.code == "ALPHA_GRID"


def many_pairs(count: int) -> list[ContrastPair]:
    return [make_pair(f"pair-{index}", f"question {index}") for index in range(count)]


def test_a_split_is_seventy_fifteen_fifteen_and_loses_no_pair() -> None:
    pairs = many_pairs(2000)
    parts = split_pairs(pairs)
    assert sorted(pair.id for part in parts.values() for pair in part) == sorted(pair.id for pair in pairs)
    for name, share in (("extract", 0.70), ("select", 0.15), ("test", 0.15)):
        assert len(parts[name]) == pytest.approx(2000 * share, abs=60)


def test_a_split_depends_neither_on_order_nor_on_pairs_that_come_later() -> None:
    pairs = many_pairs(200)
    shuffled = random.Random(1).sample(pairs, len(pairs))
    more = split_pairs([*many_pairs(300)[200:], *shuffled])
    for name, part in split_pairs(pairs).items():
        assert {pair.id for pair in part} == {pair.id for pair in split_pairs(shuffled)[name]}
        assert {pair.id for pair in part} <= {pair.id for pair in more[name]}


def test_pairs_that_ask_the_same_stay_together_on_either_side() -> None:
    chained = [
        pair
        for index in range(60)
        for pair in (
            pair_of(f"a{index}", ask(f"one {index}"), ask(f"two {index}")),
            pair_of(f"b{index}", ask(f"three {index}", "warm"), ask(f"TWO  {index}")),
            pair_of(f"c{index}", ask(f"three {index}"), ask(f"four {index}")),
        )
    ]
    parts = split_pairs(chained)
    assert all(parts.values())
    for part in parts.values():
        ids = {pair.id for pair in part}
        assert all({f"a{index}", f"b{index}", f"c{index}"} <= ids for index in range(60) if ids & {f"a{index}", f"b{index}", f"c{index}"})


def test_an_empty_set_splits_into_empty_parts() -> None:
    assert split_pairs([]) == {"extract": (), "select": (), "test": ()}
    assert sum(map(len, split_pairs(make_pairs(3)).values())) == 3
