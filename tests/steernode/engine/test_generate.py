"""Generation: the library's greedy reply, whatever the batch, the lanes and the threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from steernode.engine.access.encoding import encode_prompt
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sparing import run_mlps_at
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import generate
from steernode.engine.applying.positions import PromptLayout
from steernode.engine.applying.schedules import make_schedule
from steernode.engine.applying.steer import steered
from steernode.errors import SteerError
from steernode.files.conversations import Message
from tests.support.tiny_models import TEMPLATE, ask, count_hooks

PROMPTS = (ask("the bill is late"), ask("refund"), ask("sorry we help you now"))


def unit(loaded: LoadedModel, seed: int = 0) -> Tensor:
    direction = torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(seed))
    return direction / direction.norm()


def test_left_padding_and_batching_do_not_change_replies(any_model: LoadedModel) -> None:
    together = generate(any_model, PROMPTS, max_new_tokens=8)
    in_pairs = generate(any_model, PROMPTS, max_new_tokens=8, max_batch_rows=2)
    alone = [generate(any_model, [prompt], max_new_tokens=8)[0] for prompt in PROMPTS]
    assert [reply.token_ids for reply in together] == [reply.token_ids for reply in alone]
    assert [reply.token_ids for reply in in_pairs] == [reply.token_ids for reply in alone]
    assert [reply.prompt_tokens for reply in together] == [reply.prompt_tokens for reply in alone]


def test_our_greedy_loop_agrees_with_the_library(any_model: LoadedModel) -> None:
    for prompt in PROMPTS:
        ids = torch.tensor([encode_prompt(any_model, prompt).token_ids])
        theirs = any_model.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=2)
        [ours] = generate(any_model, [prompt], max_new_tokens=12)
        assert list(ours.scored_token_ids) == theirs[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"max_new_tokens": 0}, "MAX_NEW_TOKENS"),
        ({"max_new_tokens": 95}, "CONTEXT_LENGTH"),
        ({"conversations": [ask("x" * 200)]}, "CONTEXT_LENGTH"),
        ({"conversations": [()]}, "CONVERSATION_ROLE"),
        ({"row_coefficients": torch.ones(3, 1)}, "LAYOUT_MISMATCH"),
    ],
)
def test_a_generation_that_cannot_be_made_is_refused_by_name(llama: LoadedModel, arguments: dict, code: str) -> None:
    wanted = {"conversations": [PROMPTS[0]], "max_new_tokens": 4, **arguments}
    with pytest.raises(SteerError) as refused:
        generate(llama, wanted.pop("conversations"), **wanted)
    assert refused.value.code == code


def test_generations_in_two_threads_do_not_steer_each_other(llama: LoadedModel) -> None:
    hooks = count_hooks(llama)
    jobs = [[Component(unit(llama, seed), 1, 4.0 * seed)] for seed in range(4)] * 3
    alone = [generate(llama, PROMPTS, components=components, max_new_tokens=12) for components in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda components: generate(llama, PROMPTS, components=components, max_new_tokens=12), jobs))
    assert [[reply.token_ids for reply in replies] for replies in together] == [[reply.token_ids for reply in replies] for replies in alone]
    assert count_hooks(llama) == hooks


def test_a_pass_meets_hooks_of_another_thread_half_set_and_half_gone(llama: LoadedModel) -> None:
    """torch sets and removes a hook in two steps; between them it calls it without keywords."""
    layout = PromptLayout.of([encode_prompt(llama, PROMPTS[0])])
    is_over = threading.Event()

    def steer_until_over(is_set: threading.Event) -> None:
        with steered(llama, [Component(unit(llama, 1), 1, 4.0)], layout), run_mlps_at(llama.blocks, torch.eye(64, dtype=torch.bool)):
            is_set.set()
            is_over.wait(60)

    [alone] = generate(llama, PROMPTS[:1], max_new_tokens=4)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(steer_until_over, is_set := threading.Event())
        assert is_set.wait(60)
        hooked = [module for module in llama.model.modules() if module._forward_pre_hooks]
        for module in hooked:
            module._forward_pre_hooks_with_kwargs.clear()
        try:
            [beside] = generate(llama, PROMPTS[:1], max_new_tokens=4)
        finally:
            is_over.set()
        other.result()
    assert len(hooked) > len(llama.blocks)
    assert beside.token_ids == alone.token_ids


def test_batches_in_lanes_give_what_batches_in_turn_give(llama: LoadedModel) -> None:
    rows = torch.linspace(0, 6, 24)[:, None]
    component = Component(unit(llama, 3), 1, 0.0)
    conversations = PROMPTS * 8

    counted: list[tuple[int, int]] = []

    def replies() -> list[tuple[int, ...]]:
        made = generate(
            llama,
            conversations,
            components=[component],
            row_coefficients=rows,
            max_new_tokens=12,
            max_batch_rows=5,
            on_progress=lambda done, total: counted.append((done, total)),
        )
        return [reply.token_ids for reply in made]

    in_turn = replies()
    torch.set_num_threads(2)
    try:
        assert replies() == in_turn
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert counted[-1] == (24, 24)


def test_rows_that_end_early_leave_the_others_as_they_would_be_alone(any_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    conversations = [ask(text) for text in ("a", "the bill", "refund now please", "card", "five days", "sorry we help you now")]
    plain = [generate(any_model, [conversation], max_new_tokens=12)[0] for conversation in conversations]
    # Tokens that some replies hold early and others late or never, so that rows leave the batch at different steps.
    ends = frozenset(reply.token_ids[step] for reply, step in zip(plain, (0, 2, 4, 6), strict=False))
    monkeypatch.setattr(type(any_model), "end_token_ids", ends)
    rows = torch.tensor([[0.0], [4.0], [-2.0], [0.0], [1.0], [3.0]])
    component = Component(unit(any_model), 1, 0.0)
    together = generate(any_model, conversations, components=[component], row_coefficients=rows, max_new_tokens=12)
    for row, reply in enumerate(together):
        [alone] = generate(
            any_model, conversations[row : row + 1], components=[component], row_coefficients=rows[row : row + 1], max_new_tokens=12
        )
        assert reply.scored_token_ids == alone.scored_token_ids
    assert len({len(reply.token_ids) for reply in together}) > 1


def test_every_architecture_writes_the_same_steered_reply_cached_uncached_alone_and_in_a_batch(every_model: LoadedModel) -> None:
    conversations = [PROMPTS[0], PROMPTS[1]]
    components = [
        Component(unit(every_model), 1, 4.0, scope="all", schedule=make_schedule("linear", {"tokens": 6})),
        Component(unit(every_model, 1), 1, 1.0, site="attn_out", operator="ablate"),
    ]
    together = generate(every_model, conversations, components=components, max_new_tokens=6)
    for conversation, reply in zip(conversations, together, strict=True):
        encoded = encode_prompt(every_model, conversation)
        tokens = list(encoded.token_ids)
        with torch.inference_mode(), steered(every_model, components, PromptLayout.of([encoded])):
            for _ in reply.scored_token_ids:
                logits = every_model.model(input_ids=torch.tensor([tokens]), use_cache=False).logits
                tokens.append(int(logits[0, -1].argmax()))
        assert tuple(tokens[len(encoded.token_ids) :]) == reply.scored_token_ids


def test_scope_assistant_needs_a_template_that_marks_what_the_assistant_said(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = (*ask("late"), Message("assistant", "sorry"), *ask("now"))
    component = Component(unit(llama), 1, 4.0, scope="assistant")
    generate(llama, [answered], components=[component], max_new_tokens=2)
    unmarked = TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    monkeypatch.setattr(llama.tokenizer, "chat_template", unmarked)
    with pytest.raises(SteerError) as refused:
        generate(llama, [answered], components=[component], max_new_tokens=2)
    assert (refused.value.code, refused.value.item) == ("NO_ASSISTANT_TOKENS", "chat_template")


def test_a_batch_that_does_not_fit_in_memory_is_halved(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.tensor([[0.0], [3.0], [-3.0]])
    component = Component(unit(llama), 1, 0.0)
    wanted = generate(llama, PROMPTS, components=[component], row_coefficients=rows, max_new_tokens=6)
    forward = type(llama.model).forward
    sizes: list[int] = []

    def cramped(self: Any, input_ids: Tensor, **kwargs: Any) -> Any:
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("planted")
        return forward(self, input_ids, **kwargs)

    monkeypatch.setattr(type(llama.model), "forward", cramped)
    halved = generate(llama, PROMPTS, components=[component], row_coefficients=rows, max_new_tokens=6)
    assert [reply.token_ids for reply in halved] == [reply.token_ids for reply in wanted]
    assert 3 in sizes
