"""Sites of every architecture: they add up, and what is changed at one reaches the logits exactly as the formula says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steernode.engine.access.encoding import encode_prompt
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import check_layer_site, check_site, visit_site
from steernode.engine.applying.components import Component
from steernode.engine.applying.positions import PromptLayout
from steernode.engine.applying.steer import steered
from steernode.errors import EngineError, LayerError
from steernode.words import SITES
from tests.support.rounding import tolerance
from tests.support.tiny_models import ask, count_hooks

LAYER = 1
# Longer than the sliding window of the models that have one.
TOKEN_IDS = torch.tensor([[3, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150], [9, 8, 7, 30, 31, 32, 33, 34, 35, 36, 37, 38]])


def sites_of(loaded: LoadedModel, layer: int) -> list[str]:
    absent = {"resid_mid"} if loaded.architecture.is_parallel else set()
    return [site for site in SITES if site not in absent and (layer == 0 or site != "embedding")]


def logits_of(loaded: LoadedModel, token_ids: Tensor = TOKEN_IDS) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = loaded.model(input_ids=token_ids, use_cache=False).logits
    return logits


@contextmanager
def visiting(loaded: LoadedModel, layer: int, site: str, visit: Callable[[Tensor], None]) -> Iterator[None]:
    handle = visit_site(loaded, layer, site, visit)
    try:
        yield
    finally:
        handle.remove()


def read_sites(loaded: LoadedModel, layer: int, token_ids: Tensor = TOKEN_IDS) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    handles = [
        visit_site(loaded, layer, site, lambda stream, site=site: found.update({site: stream.clone()})) for site in sites_of(loaded, layer)
    ]
    logits_of(loaded, token_ids)
    for handle in handles:
        handle.remove()
    return found


def tolerance_of(loaded: LoadedModel) -> float:
    """Of what the sites of block LAYER hold, from a row that is computed alone: the same states, from products of another shape."""
    together, alone = read_sites(loaded, LAYER), read_sites(loaded, LAYER, TOKEN_IDS[:1])
    return tolerance([float((together[site][0] - alone[site][0]).abs().max()) for site in alone], float(together["resid_post"].abs().max()))


def mlp_contribution(loaded: LoadedModel, layer: int, stream: Tensor) -> Tensor:
    """What the MLP adds, given the stream it reads: written out by hand from each family's paper and code."""
    block: Any = loaded.blocks[layer]
    config = loaded.model.config
    match config.model_type:
        case "gemma2" | "gemma3_text":
            return block.post_feedforward_layernorm(block.mlp(block.pre_feedforward_layernorm(stream)))
        case "olmo2":
            return block.post_feedforward_layernorm(block.mlp(stream))
        case "gpt2":
            return block.mlp(block.ln_2(stream))
        case "opt":
            normed = block.final_layer_norm(stream) if config.do_layer_norm_before else stream
            return block.fc2(torch.relu(block.fc1(normed)))
        case "falcon" if config.new_decoder_architecture:
            return block.mlp(block.ln_mlp(stream))
        case "granite":
            return 0.3 * block.mlp(block.post_attention_layernorm(stream))
        case "cohere2" | "falcon" | "stablelm" if loaded.architecture.is_parallel:
            return block.mlp(block.input_layernorm(stream))
        case _:
            return block.mlp(block.post_attention_layernorm(stream))


def finish_block(
    loaded: LoadedModel, pre: Tensor, attention: Tensor, *, at_mid: Tensor | float = 0.0, at_mlp: Tensor | float = 0.0
) -> Tensor:
    """The output of block LAYER from its input and its attention's contribution, with something added on the way."""
    block: Any = loaded.blocks[LAYER]
    if loaded.architecture.is_parallel:
        return pre + attention + mlp_contribution(loaded, LAYER, pre) + at_mlp
    middle = pre + attention
    if is_post_norm(loaded):
        middle = block.self_attn_layer_norm(middle)
    middle = middle + at_mid
    post = middle + mlp_contribution(loaded, LAYER, middle) + at_mlp
    return block.final_layer_norm(post) if is_post_norm(loaded) else post


def is_post_norm(loaded: LoadedModel) -> bool:
    return not getattr(loaded.model.config, "do_layer_norm_before", True)


@contextmanager
def replaced_block(block: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """The block with another forward in place of its own: no hook of any kind."""
    block.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del block.forward


def oracle_logits(loaded: LoadedModel, site: str, shift: Tensor) -> Tensor:
    """The logits with `shift` added at a site of block LAYER (of block 0 for the embedding), computed without the engine's hooks."""
    base = read_sites(loaded, LAYER)
    pre, attention = base["resid_pre"], base["attn_out"]
    block = loaded.blocks[0 if site == "embedding" else LAYER]
    own = block.forward
    if site in ("resid_pre", "embedding"):
        with replaced_block(block, lambda stream, *args, **kwargs: own(stream + shift, *args, **kwargs)):
            return logits_of(loaded)
    with torch.inference_mode():
        output = {
            "attn_out": lambda: finish_block(loaded, pre, attention + shift),
            "resid_mid": lambda: finish_block(loaded, pre, attention, at_mid=shift),
            "mlp_out": lambda: finish_block(loaded, pre, attention, at_mlp=shift),
            "resid_post": lambda: base["resid_post"] + shift,
        }[site]()
    is_tuple = loaded.model.config.model_type == "falcon"
    with replaced_block(block, lambda *_args, **_kwargs: (output, None) if is_tuple else output):
        return logits_of(loaded)


@pytest.mark.parametrize("site", ["resid", "", "resid_post ", "RESID_POST", "head"])
def test_an_unknown_site_is_refused_by_name(llama: LoadedModel, site: str) -> None:
    for refuse in (lambda: check_site(site), lambda: visit_site(llama, 0, site, print)):
        with pytest.raises(EngineError, match="resid_pre, resid_mid, resid_post, attn_out, mlp_out, embedding") as refused:
            refuse()
        assert (refused.value.code, refused.value.item) == ("SITE_UNKNOWN", site)


def test_a_layer_the_model_does_not_have_is_refused_and_never_counted_from_the_end(llama: LoadedModel) -> None:
    for layer in (-1, 4, True, 1.0, None):
        with pytest.raises(LayerError):
            visit_site(llama, layer, "resid_post", print)  # type: ignore[arg-type]


def test_the_embedding_belongs_to_layer_zero_alone(every_model: LoadedModel) -> None:
    check_layer_site(every_model, 0, "embedding")
    with pytest.raises(EngineError, match="before layer 0") as refused:
        check_layer_site(every_model, 1, "embedding")
    assert (refused.value.code, refused.value.item) == ("SITE_LAYER", "1")


def test_a_parallel_block_has_no_middle_and_says_why(every_model: LoadedModel) -> None:
    if not every_model.architecture.is_parallel:
        check_layer_site(every_model, LAYER, "resid_mid")
        return
    before = count_hooks(every_model)
    with pytest.raises(EngineError, match="in parallel") as refused:
        visit_site(every_model, LAYER, "resid_mid", print)
    assert refused.value.code == "SITE_ABSENT"
    assert count_hooks(every_model) == before


def test_which_tiny_models_are_parallel(every_model: LoadedModel) -> None:
    config = every_model.model.config
    parallel = {
        "gpt_neox": lambda: config.use_parallel_residual,
        "stablelm": lambda: config.use_parallel_residual,
        "falcon": lambda: config.new_decoder_architecture or config.parallel_attn,
        "cohere2": lambda: True,
    }.get(config.model_type, lambda: False)()
    assert every_model.architecture.is_parallel == parallel


def test_the_sites_of_a_block_add_up_to_what_it_returns(every_model: LoadedModel) -> None:
    for layer in range(every_model.n_layers):
        found = read_sites(every_model, layer)
        pre, attention, mlp, post = (found[site] for site in ("resid_pre", "attn_out", "mlp_out", "resid_post"))
        read_by_mlp = pre if every_model.architecture.is_parallel else found["resid_mid"]
        assert_close(mlp_contribution(every_model, layer, read_by_mlp), mlp)
        if every_model.architecture.is_parallel:
            assert_close(pre + attention + mlp, post)
        elif is_post_norm(every_model):
            block: Any = every_model.blocks[layer]
            assert_close(block.self_attn_layer_norm(pre + attention), found["resid_mid"])
            assert_close(block.final_layer_norm(found["resid_mid"] + mlp), post)
        else:
            assert_close(pre + attention, found["resid_mid"])
            assert_close(found["resid_mid"] + mlp, post)


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_what_one_block_returns_is_what_the_next_is_given(every_model: LoadedModel) -> None:
    found = [read_sites(every_model, layer) for layer in range(every_model.n_layers)]
    assert torch.equal(found[0]["embedding"], found[0]["resid_pre"])
    for below, above in pairwise(found):
        assert torch.equal(below["resid_post"], above["resid_pre"])


def test_a_vector_added_in_place_at_any_site_moves_the_logits_as_the_formula_says(every_model: LoadedModel) -> None:
    shift = torch.randn(every_model.d_model, generator=torch.Generator().manual_seed(2))
    base = logits_of(every_model)
    for site in (*sites_of(every_model, LAYER), "embedding"):
        with visiting(every_model, 0 if site == "embedding" else LAYER, site, lambda stream: stream.add_(shift)):
            moved = logits_of(every_model)
        assert (moved - base).abs().max() > 1e-2, site
        torch.testing.assert_close(
            moved, oracle_logits(every_model, site, shift), rtol=1e-4, atol=1e-4, msg=lambda text, site=site: f"{site}: {text}"
        )


def test_a_vector_added_to_one_token_is_found_there_and_nowhere_before(every_model: LoadedModel) -> None:
    shift = torch.randn(every_model.d_model, generator=torch.Generator().manual_seed(3))
    base = read_sites(every_model, LAYER)
    # An expert computes all tokens that are routed to it in one product, whose shape changes with one that is routed elsewhere.
    # Elsewhere the other tokens are computed as before.
    nothing = tolerance_of(every_model) if hasattr(getattr(every_model.blocks[LAYER], "mlp", None), "experts") else 0.0

    def steer(stream: Tensor) -> None:
        stream[1, 7] += shift

    for site in sites_of(every_model, LAYER):
        with visiting(every_model, LAYER, site, steer):
            moved = read_sites(every_model, LAYER)
        assert_close(moved[site][1, 7], base[site][1, 7] + shift)
        for after in ("resid_post", site):
            assert float((moved[after][0] - base[after][0]).abs().max()) <= nothing, site
            assert float((moved[after][1, :7] - base[after][1, :7]).abs().max()) <= nothing, site
        assert not torch.equal(moved["resid_post"][1, 7], base["resid_post"][1, 7]), site


def test_reading_every_site_changes_no_bit(every_model: LoadedModel) -> None:
    base, hooks = logits_of(every_model), count_hooks(every_model)
    seen: list[torch.Size] = []
    handles = [
        visit_site(every_model, layer, site, lambda stream: seen.append(stream.shape))
        for layer in range(every_model.n_layers)
        for site in sites_of(every_model, layer)
    ]
    assert torch.equal(logits_of(every_model), base)
    assert set(seen) == {torch.Size([2, 12, 32])}
    assert len(seen) == len(handles)
    for handle in handles:
        handle.remove()
    assert count_hooks(every_model) == hooks


def test_steering_at_any_site_leaves_model_and_hooks_as_they_were_and_zero_does_nothing(every_model: LoadedModel) -> None:
    layout = PromptLayout.of([encode_prompt(every_model, ask("refund"))] * 2)
    direction = torch.full((every_model.d_model,), every_model.d_model**-0.5)
    weights = {name: parameter.clone() for name, parameter in every_model.model.named_parameters()}
    base, hooks = logits_of(every_model), count_hooks(every_model)
    for site in sites_of(every_model, 0):
        with steered(every_model, [Component(direction, 0, 0.0, site=site, scope="all")], layout):
            assert count_hooks(every_model) == hooks
            assert torch.equal(logits_of(every_model), base)
        with steered(every_model, [Component(direction, 0, 4.0, site=site, scope="all")], layout):
            assert not torch.equal(logits_of(every_model), base)
        assert count_hooks(every_model) == hooks
        assert torch.equal(logits_of(every_model), base)
    for name, parameter in every_model.model.named_parameters():
        assert torch.equal(parameter.view(torch.uint8), weights[name].view(torch.uint8)), name


def test_a_site_hooked_in_one_thread_sees_no_pass_of_another(every_model: LoadedModel) -> None:
    seen: list[Tensor] = []
    handles = [visit_site(every_model, 0, site, seen.append) for site in sites_of(every_model, 0)]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(logits_of, every_model).result()
    for handle in handles:
        handle.remove()
    assert not seen
