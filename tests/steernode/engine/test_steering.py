"""Steering does exactly what it says: base + α·v where it should, nothing at all where it should not."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from steernode.engine.access.encoding import encode_prompt, pad_left
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import visit_site
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import generate
from steernode.engine.applying.positions import PromptLayout
from steernode.engine.applying.schedules import Schedule, make_schedule
from steernode.engine.applying.steer import steered
from steernode.errors import EngineError, LayerError
from steernode.words import SITES
from tests.support.tiny_models import ask, build_model, count_hooks

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


def test_nothing_times_a_direction_and_a_direction_minus_itself_are_the_baseline_bit_for_bit(any_model: LoadedModel) -> None:
    direction, other = unit(any_model) / 3, unit(any_model, 1)
    base = probe(any_model, 2, [], PROMPTS)
    for components in (
        [Component(direction, 1, 0.0)],
        [Component(torch.zeros(any_model.d_model), 1, 5.0)],
        [Component(direction, 1, 0.7), Component(direction, 1, -0.7)],
        [Component(direction, 1, 0.7), Component(-direction, 1, 0.7)],
        [Component(direction, 1, 0.7), Component(other, 1, 2.0), Component(direction, 1, -0.7), Component(other, 1, -2.0)],
        [Component(direction, 1, 0.0, operator="ablate", scope="all"), Component(direction, 1, 0.0, preserve_norm=True)],
    ):
        hooks = count_hooks(any_model)
        components = [replace(component, direction=one_unit(component)) for component in components]
        with steered(any_model, components, PromptLayout.of([encode_prompt(any_model, PROMPTS[0])])):
            assert count_hooks(any_model) == hooks
        assert torch.equal(probe(any_model, 2, components, PROMPTS), base)


def one_unit(component: Component) -> Tensor:
    """A direction that is removed has to be a unit vector; one that is added may have any length."""
    return component.direction / component.direction.norm() if component.operator == "ablate" else component.direction


def test_minus_minus_a_direction_is_the_direction_bit_for_bit(any_model: LoadedModel) -> None:
    direction = unit(any_model)
    plus = probe(any_model, 2, [Component(direction, 1, 3.0)], PROMPTS)
    assert torch.equal(probe(any_model, 2, [Component(-direction, 1, -3.0)], PROMPTS), plus)
    assert torch.equal(probe(any_model, 2, [Component(direction.neg().neg(), 1, 3.0)], PROMPTS), plus)


def test_components_of_one_layer_apply_in_the_given_order(llama: LoadedModel) -> None:
    direction = unit(llama)
    add, ablate = Component(direction, 1, 3.0), Component(direction, 1, 1.0, operator="ablate")
    base = probe(llama, 1, [], PROMPTS)[:, -1]
    removed = base - (base @ direction)[:, None] * direction
    torch.testing.assert_close(probe(llama, 1, [add, ablate], PROMPTS)[:, -1], removed, rtol=0, atol=1e-5)
    torch.testing.assert_close(probe(llama, 1, [ablate, add], PROMPTS)[:, -1], removed + 3.0 * direction, rtol=0, atol=1e-5)
    cap = Component(direction, 1, 1.0, operator="clamp", bound=0.25)
    capped = probe(llama, 1, [add, cap], PROMPTS)[:, -1]
    torch.testing.assert_close(capped @ direction, ((base @ direction) + 3.0).clamp(max=0.25), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_measures_base_plus_alpha_times_the_direction_within_its_rounding(llama: LoadedModel, dtype: torch.dtype) -> None:
    half = replace(llama, model=build_model("llama").to(dtype).eval())
    half = replace(half, decoder=half.model.model, blocks=tuple(half.model.model.layers))
    direction = unit(half)
    base = probe(half, 1, [], PROMPTS)[:, -1]
    for components in ([Component(direction, 1, 2.5)], [Component(direction, 1, 2.5, preserve_norm=True)]):
        moved = probe(half, 1, components, PROMPTS)[:, -1]
        wanted = base.float() + 2.5 * direction
        if components[0].preserve_norm:
            wanted = wanted * base.float().norm(dim=-1, keepdim=True) / wanted.norm(dim=-1, keepdim=True)
        assert moved.dtype is dtype
        # One rounding of α·v and one of the sum, each at most half a unit in the last place.
        torch.testing.assert_close(moved.float(), wanted, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)


def digest(loaded: LoadedModel) -> str:
    found = hashlib.sha256()
    for name, tensor in loaded.model.state_dict().items():
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def test_the_model_and_the_directions_are_byte_identical_afterwards(any_model: LoadedModel) -> None:
    direction = unit(any_model)
    untouched, weights, hooks = direction.clone(), digest(any_model), count_hooks(any_model)
    components = [
        Component(direction, 1, 30.0, scope="all"),
        Component(direction, 1, 1.0, site="resid_pre", operator="ablate", preserve_norm=True),
        Component(direction, 2, 1.0, operator="clamp", bound=0.1, schedule=make_schedule("linear", {"tokens": 3})),
    ]
    before = generate(any_model, PROMPTS, max_new_tokens=6)
    generate(any_model, PROMPTS, components=components, max_new_tokens=6)
    assert [reply.token_ids for reply in generate(any_model, PROMPTS, max_new_tokens=6)] == [reply.token_ids for reply in before]
    assert digest(any_model) == weights
    assert torch.equal(direction, untouched)
    assert count_hooks(any_model) == hooks


@pytest.mark.parametrize("site", SITES)
def test_a_component_moves_every_site_by_what_it_says(llama: LoadedModel, site: str) -> None:
    layer = 0 if site == "embedding" else 1
    direction = unit(llama)
    seen: list[Tensor] = []
    encoded = [encode_prompt(llama, PROMPTS[0])]
    for components in ([], [Component(direction, layer, 2.0, site=site, scope="all")]):
        with torch.inference_mode(), steered(llama, components, PromptLayout.of(encoded)):
            handle = visit_site(llama, layer, site, lambda stream: seen.append(stream.clone()))
            llama.model(torch.tensor([encoded[0].token_ids]))
            handle.remove()
    torch.testing.assert_close(seen[1], seen[0] + 2.0 * direction, rtol=0, atol=1e-5)


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
        ({"site": "embedding"}, "SITE_LAYER"),
        ({"operator": "rotate"}, "OPERATOR_UNKNOWN"),
        ({"operator": "ablate", "coefficient": 1.5}, "STRENGTH_RANGE"),
        ({"operator": "ablate", "coefficient": -0.5}, "STRENGTH_RANGE"),
        ({"operator": "ablate", "direction": torch.ones(32)}, "DIRECTION_NORM"),
        ({"operator": "clamp"}, "BOUND_INVALID"),
        ({"operator": "clamp", "bound": 0.0}, "BOUND_INVALID"),
        ({"operator": "clamp", "bound": float("nan")}, "BOUND_INVALID"),
        ({"bound": 1.0}, "BOUND_INVALID"),
        ({"schedule": Schedule("cosine")}, "SCHEDULE_UNKNOWN"),
        ({"schedule": Schedule("linear", (("tokens", -1),))}, "SCHEDULE_INVALID"),
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
    assert refused.value.item is not None
