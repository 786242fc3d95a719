"""Steering does exactly what it says: base + α·v where it should, nothing at all where it should not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny_models import ask, count_hooks
from torch import Tensor

from steerkit.engine.encoding import encode_prompt, pad_left
from steerkit.engine.generate import generate
from steerkit.engine.models import LoadedModel
from steerkit.engine.positions import PromptLayout
from steerkit.engine.sites import visit_site
from steerkit.engine.steer import Component, steered
from steerkit.errors import EngineError, LayerError, SteerError

PROMPTS = (ask("the bill is late"), ask("refund"), ask("sorry we help you now"))


def unit(loaded: LoadedModel, seed: int = 0) -> Tensor:
    direction = torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(seed))
    return direction / direction.norm()


def probe(loaded: LoadedModel, layer: int, components: list[Component], prompts: tuple, rows: Tensor | None = None) -> Tensor:
    """The residual stream after `layer`, seen by a hook of our own that was registered after the steering."""
    encoded = [encode_prompt(loaded, prompt) for prompt in prompts]
    batch = pad_left([prompt.token_ids for prompt in encoded], loaded)
    seen: list[Tensor] = []
    with torch.inference_mode(), steered(loaded, components, PromptLayout.of(encoded), row_coefficients=rows):
        handle = visit_site(loaded, layer, "resid_post", lambda stream: seen.append(stream.clone()))
        try:
            loaded.model(input_ids=batch.token_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids)
        finally:
            handle.remove()
    return seen[0]


def test_a_probe_measures_base_plus_alpha_times_the_direction(any_model: LoadedModel) -> None:
    direction = unit(any_model)
    base = probe(any_model, 1, [], PROMPTS)
    moved = probe(any_model, 1, [Component(direction, 1, 2.5)], PROMPTS)
    torch.testing.assert_close(moved[:, -1], base[:, -1] + 2.5 * direction, rtol=0, atol=1e-5)
    assert torch.equal(moved[:, :-1], base[:, :-1])


def test_resid_pre_of_the_next_layer_is_resid_post_of_this_one(any_model: LoadedModel) -> None:
    direction = unit(any_model)
    after = probe(any_model, 2, [Component(direction, 1, 2.5)], PROMPTS)
    before = probe(any_model, 2, [Component(direction, 2, 2.5, site="resid_pre")], PROMPTS)
    assert torch.equal(after, before)


@pytest.mark.parametrize("scope", ["generated", "prompt", "all", "assistant"])
def test_cached_generation_equals_uncached_while_steering(any_model: LoadedModel, scope: str) -> None:
    component = Component(unit(any_model), 1, 6.0, scope=scope)
    for prompt in PROMPTS:
        [cached] = generate(any_model, [prompt], components=[component], max_new_tokens=10)
        assert cached.token_ids == uncached_greedy(any_model, prompt, component, len(cached.token_ids))


def uncached_greedy(loaded: LoadedModel, prompt: tuple, component: Component, steps: int) -> tuple[int, ...]:
    encoded = encode_prompt(loaded, prompt, mark_assistant=True)
    tokens = list(encoded.token_ids)
    with torch.inference_mode(), steered(loaded, [component], PromptLayout.of([encoded])):
        for _ in range(steps):
            logits = loaded.model(input_ids=torch.tensor([tokens]), use_cache=False).logits
            tokens.append(int(logits[0, -1].argmax()))
    return tuple(tokens[len(encoded.token_ids) :])


def test_steering_changes_what_is_written(any_model: LoadedModel) -> None:
    [plain] = generate(any_model, [PROMPTS[0]], max_new_tokens=10)
    [moved] = generate(any_model, [PROMPTS[0]], components=[Component(unit(any_model), 1, 8.0)], max_new_tokens=10)
    assert plain.token_ids != moved.token_ids


def test_zero_registers_no_hook_and_replies_are_byte_identical(any_model: LoadedModel) -> None:
    component = Component(unit(any_model), 1, 0.0)
    layout = PromptLayout.of([encode_prompt(any_model, PROMPTS[0])])
    before = count_hooks(any_model)
    with steered(any_model, [component], layout):
        assert count_hooks(any_model) == before
    for prompt in PROMPTS:
        [plain] = generate(any_model, [prompt], max_new_tokens=10)
        [zero] = generate(any_model, [prompt], components=[component], max_new_tokens=10)
        assert zero.text.encode() == plain.text.encode()
        assert zero.token_ids == plain.token_ids


def test_a_direction_minus_itself_cancels(llama: LoadedModel) -> None:
    direction = unit(llama)
    base = probe(llama, 3, [], PROMPTS)
    cancelled = probe(llama, 3, [Component(direction, 1, 3.0), Component(direction, 1, -3.0)], PROMPTS)
    torch.testing.assert_close(cancelled, base, rtol=0, atol=1e-5)
    minus_minus = probe(llama, 3, [Component(-direction, 1, -3.0)], PROMPTS)
    assert torch.equal(minus_minus, probe(llama, 3, [Component(direction, 1, 3.0)], PROMPTS))


def test_each_row_of_a_batch_gets_its_own_alpha(llama: LoadedModel) -> None:
    direction = unit(llama)
    rows = torch.tensor([[0.0], [2.0], [-1.0]])
    base = probe(llama, 1, [], PROMPTS)
    moved = probe(llama, 1, [Component(direction, 1, 9.0)], PROMPTS, rows)
    assert torch.equal(moved[0], base[0])
    torch.testing.assert_close(moved[:, -1] - base[:, -1], rows * direction, rtol=0, atol=1e-5)


def test_a_batch_of_alphas_and_layers_writes_what_each_row_writes_alone(any_model: LoadedModel) -> None:
    components = [Component(unit(any_model, layer), layer, 0.0) for layer in range(3)]
    conversations = [prompt for prompt in PROMPTS for _ in range(4)]
    rows = torch.tensor([[float(row % 4 * 3) if layer == row % 3 else 0.0 for layer in range(3)] for row in range(12)])
    together = generate(any_model, conversations, components=components, row_coefficients=rows, max_new_tokens=8)
    for row, reply in enumerate(together):
        [alone] = generate(any_model, [conversations[row]], components=components, row_coefficients=rows[row : row + 1], max_new_tokens=8)
        assert reply.token_ids == alone.token_ids


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


@pytest.mark.parametrize(("scope", "touched"), [("generated", [4]), ("all", [1, 2, 3, 4]), ("prompt", [1, 2, 3, 4])])
def test_scopes_cover_the_tokens_they_name_and_never_padding(llama: LoadedModel, scope: str, touched: list[int]) -> None:
    # Five columns; the first row is one token shorter, so its column 0 is padding.
    prompts = (ask("a"), ask("ab"))
    moved = probe(llama, 1, [Component(unit(llama), 1, 4.0, scope=scope)], prompts)
    changed = (moved != probe(llama, 1, [], prompts)).any(dim=-1)
    assert changed[0].nonzero().flatten().tolist() == touched
    assert changed[1].nonzero().flatten().tolist() == (touched if scope == "generated" else [0, *touched])


def test_scope_prompt_stops_where_the_reply_starts(llama: LoadedModel) -> None:
    encoded = encode_prompt(llama, PROMPTS[1])
    seen: list[Tensor] = []
    tokens = [*encoded.token_ids, 20, 21]

    def streams(components: list[Component]) -> Tensor:
        with torch.inference_mode(), steered(llama, components, PromptLayout.of([encoded])):
            handle = visit_site(llama, 0, "resid_post", lambda stream: seen.append(stream.clone()))
            try:
                llama.model(input_ids=torch.tensor([tokens]), use_cache=False)
            finally:
                handle.remove()
        return seen[-1]

    changed = (streams([Component(unit(llama), 0, 4.0, scope="prompt")]) != streams([])).any(dim=-1)[0]
    assert changed.tolist() == [True] * len(encoded.token_ids) + [False, False]


def test_hooks_are_removed_when_generation_fails(llama: LoadedModel) -> None:
    def fail(_stream: Tensor) -> None:
        raise RuntimeError("planted")

    before = count_hooks(llama)
    handle = visit_site(llama, 2, "resid_post", fail)
    try:
        with pytest.raises(RuntimeError, match="planted"):
            generate(llama, [PROMPTS[0]], components=[Component(unit(llama), 1, 1.0)], max_new_tokens=4)
    finally:
        handle.remove()
    assert count_hooks(llama) == before


def test_hooks_are_removed_when_a_later_component_is_refused(llama: LoadedModel) -> None:
    before = count_hooks(llama)
    good, bad = Component(unit(llama), 1, 1.0), Component(unit(llama), 2, 1.0, scope="nowhere")
    with pytest.raises(EngineError, match="nowhere"):
        generate(llama, [PROMPTS[0]], components=[good, bad], max_new_tokens=4)
    assert count_hooks(llama) == before


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"layer": 4}, "LAYER_RANGE"),
        ({"layer": -1}, "LAYER_RANGE"),
        ({"layer": True}, "LAYER_RANGE"),
        ({"site": "head"}, "SITE_UNKNOWN"),
        ({"operator": "rotate"}, "OPERATOR_UNKNOWN"),
        ({"scope": "last"}, "SCOPE_UNKNOWN"),
        ({"direction": torch.ones(7)}, "DIRECTION_SHAPE"),
        ({"direction": torch.full((32,), float("nan"))}, "NON_FINITE"),
        ({"coefficient": float("inf")}, "NON_FINITE"),
    ],
)
def test_a_component_that_cannot_be_applied_is_refused_by_name(llama: LoadedModel, change: dict, code: str) -> None:
    values = {"direction": unit(llama), "layer": 1, "coefficient": 1.0, **change}
    with pytest.raises((EngineError, LayerError)) as refused:
        generate(llama, [PROMPTS[0]], components=[Component(**values)], max_new_tokens=2)
    assert refused.value.code == code


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
