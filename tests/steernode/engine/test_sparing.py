"""Sparing: tokens that nobody reads are left out of MLPs, and nothing else changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import visit_site
from steernode.engine.access.sparing import run_mlps_at
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import generate
from tests.support.tiny_models import ask, count_hooks

TOKEN_IDS = torch.arange(3, 43).reshape(2, 20)
# What a causal model writes at these depends on nothing else.
WANTED = torch.zeros(2, 20, dtype=torch.bool)
WANTED[0, :4] = True
WANTED[1, :3] = True


class Rows(nn.Module):
    """Counts the tokens that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, stream: Tensor) -> Tensor:
        self.seen.append(stream.shape[:-1].numel())
        return stream + 1


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = Rows()


def hidden(loaded: LoadedModel) -> Tensor:
    with torch.inference_mode():
        output: Tensor = loaded.decoder(input_ids=TOKEN_IDS, use_cache=False)[0]
    return output


def test_every_architecture_keeps_the_states_of_the_tokens_that_are_wanted(every_model: LoadedModel) -> None:
    hooks, plain = count_hooks(every_model), hidden(every_model)
    with run_mlps_at(every_model.blocks, WANTED):
        spared = hidden(every_model)
    assert torch.allclose(spared[WANTED], plain[WANTED], atol=1e-5)
    # All of them but OPT keep an MLP in `mlp`, so that the others must have been left out.
    assert torch.equal(spared[~WANTED], plain[~WANTED]) == (every_model.model.config.model_type == "opt")
    assert count_hooks(every_model) == hooks
    assert torch.equal(hidden(every_model), plain)


def test_who_hooks_the_mlp_sees_whole_batches_with_zeros_where_nothing_ran(llama: LoadedModel) -> None:
    seen: list[Tensor] = []
    before = visit_site(llama, 1, "mlp_out", lambda stream: seen.append(stream.clone()))
    with run_mlps_at(llama.blocks, WANTED):
        after = visit_site(llama, 1, "mlp_out", lambda stream: seen.append(stream.clone()))
        hidden(llama)
    before.remove()
    after.remove()
    for stream in seen:
        assert stream.shape[:2] == WANTED.shape
        assert (stream != 0).any(dim=-1).equal(WANTED)
    assert len(seen) == 2


@pytest.mark.parametrize("wanted", [torch.ones(2, 200, dtype=torch.bool), torch.arange(400).reshape(2, 200) >= 24, torch.eye(3).bool()])
def test_what_saves_too_little_is_left_alone(wanted: Tensor) -> None:
    block = Block()
    with run_mlps_at([block], wanted):
        block.mlp(torch.zeros(*wanted.shape, 5))
    assert block.mlp.seen == [wanted.numel()]


def test_passes_of_another_shape_or_thread_run_whole() -> None:
    block, stream = Block(), torch.rand(2, 20, 5)
    with run_mlps_at([block], WANTED):
        spared = block.mlp(stream)
        longer = block.mlp(stream[:, :1])
        with ThreadPoolExecutor(1) as pool:
            elsewhere = pool.submit(block.mlp, stream).result()
    assert block.mlp.seen == [7, 2, 40]
    assert torch.equal(spared[WANTED], stream[WANTED] + 1)
    assert not spared[~WANTED].any()
    assert torch.equal(longer, stream[:, :1] + 1)
    assert torch.equal(elsewhere, stream + 1)


class AddsTheStream(Rows):
    def forward(self, stream: Tensor, residual: Tensor) -> Tensor:
        return super().forward(stream) + residual


def test_an_mlp_that_is_given_more_than_the_stream_runs_whole() -> None:
    block, stream = Block(), torch.rand(2, 20, 5)
    block.mlp = AddsTheStream()
    with run_mlps_at([block], WANTED):
        by_place, by_name = block.mlp(stream, stream), block.mlp(stream, residual=stream)
    assert block.mlp.seen == [40, 40]
    assert torch.equal(by_place, stream + 1 + stream)
    assert torch.equal(by_name, by_place)


def test_who_hooks_a_part_of_the_mlp_sees_whole_batches(llama: LoadedModel) -> None:
    shapes: list[torch.Size] = []
    handle = llama.blocks[1].mlp.down_proj.register_forward_hook(lambda _module, _args, output: shapes.append(output.shape[:-1]))
    with run_mlps_at(llama.blocks, WANTED):
        hidden(llama)
    handle.remove()
    assert shapes == [WANTED.shape]


def test_hooks_go_when_the_pass_fails(llama: LoadedModel) -> None:
    hooks = count_hooks(llama)
    with pytest.raises(ZeroDivisionError), run_mlps_at(llama.blocks, WANTED):
        raise ZeroDivisionError
    assert count_hooks(llama) == hooks


@pytest.mark.parametrize("site", ["mlp_out", "resid_post"])
def test_replies_to_prompts_of_very_different_lengths_are_those_that_each_gets_alone(every_model: LoadedModel, site: str) -> None:
    conversations = [ask("sorry we help you now " * 3), ask("refund"), ask("a")]
    component = Component(torch.nn.functional.normalize(torch.ones(every_model.d_model), dim=0), 1, 3.0, site=site, scope="all")
    together = generate(every_model, conversations, components=[component], max_new_tokens=6)
    lengths = [reply.prompt_tokens for reply in together]
    assert sum(max(lengths) - length for length in lengths) >= 16
    for conversation, reply in zip(conversations, together, strict=True):
        [alone] = generate(every_model, [conversation], components=[component], max_new_tokens=6)
        assert reply.scored_token_ids == alone.scored_token_ids
