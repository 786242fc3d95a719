"""Spreading: where each block goes, and that tensors meet on one device. The devices are torch's fake ones, which hold no numbers and
refuse whatever would mix two GPUs."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.cache_utils import DynamicCache

from steernode.engine.access.architectures import find_architecture
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import hook_input, on_device
from steernode.engine.access.spreading import forget_dispatch, join_blocks, map_blocks, move
from steernode.placement import GIB, Device

FIRST, SECOND = (Device(f"cuda:{number}", "H200", f"GPU-{number}", 140 * GIB, 100 * GIB) for number in (0, 1))


def test_blocks_follow_each_other_over_the_devices_and_the_rest_stays_on_the_first(llama: LoadedModel) -> None:
    config = llama.model.config
    mapped = map_blocks(type(llama.model), config, find_architecture(config), torch.bfloat16, (FIRST, SECOND))
    assert mapped[""] == "cuda:0"
    assert [mapped[f"model.layers.{layer}"] for layer in range(4)] == sorted(mapped[f"model.layers.{layer}"] for layer in range(4))
    assert mapped["model.layers.3"] == "cuda:1"


def test_what_is_moved_keeps_its_form() -> None:
    cache, tensor = DynamicCache(), torch.zeros(2)
    moved = move(
        {"hidden_states": tensor, "position_embeddings": (tensor, tensor), "past_key_values": cache, "use_cache": True},
        torch.device("meta"),
    )
    assert (moved["hidden_states"].device.type, moved["position_embeddings"][1].device.type) == ("meta", "meta")
    assert moved["past_key_values"] is cache
    assert moved["use_cache"] is True


class Block(nn.Module):
    """As a decoder block is called: the stream first, what all blocks share by name."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(8, 8))

    def forward(self, hidden_states: Tensor, *, position_embeddings: tuple[Tensor, Tensor]) -> Tensor:
        return hidden_states @ self.weight * position_embeddings[0] + position_embeddings[1]


@pytest.fixture
def blocks() -> Iterator[list[Block]]:
    """Four blocks, the upper two on a second GPU."""
    with FakeTensorMode(), torch.no_grad():
        made = []
        for device in ("cuda:0", "cuda:0", "cuda:1", "cuda:1"):
            with torch.device(device):
                made.append(Block())
        yield made


def run(blocks: list[Block]) -> Tensor:
    stream, shared = torch.empty(2, 5, 8, device="cuda:0"), torch.empty(8, device="cuda:0")
    for block in blocks:
        stream = block(stream, position_embeddings=(shared, shared))
    return stream


def test_without_joining_two_devices_do_not_meet(blocks: list[Block]) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        run(blocks)


def test_a_pass_goes_over_both_devices_and_ends_on_the_first(blocks: list[Block]) -> None:
    join_blocks(blocks)
    assert run(blocks).device == torch.device("cuda:0")
    assert run(blocks[:3]).device == torch.device("cuda:1")


def test_who_looks_at_a_site_of_another_device_sees_it_on_the_first(blocks: list[Block]) -> None:
    join_blocks(blocks)
    seen, first = [], torch.device("cuda:0")

    def look(stream: Tensor) -> None:
        seen.append(stream.device)
        raise LookupError

    hook_input(blocks[2], lambda stream: seen.append(stream.device))
    hook_input(blocks[2], on_device(look, first))
    with pytest.raises(LookupError):
        run(blocks)
    assert seen == [torch.device("cuda:1"), first]


def test_what_is_changed_there_is_changed_where_it_lies() -> None:
    stream = torch.zeros(1, 2, 3)
    on_device(lambda here: here.add_(1), torch.device("cpu"))(stream)
    assert stream.sum() == 6


def test_what_wraps_every_forward_is_taken_off_so_that_a_copy_runs_its_own_parts() -> None:
    hooks = pytest.importorskip("accelerate.hooks", reason="accelerate is for GPUs")
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    for module in model.modules():
        hooks.add_hook_to_module(module, hooks.AlignDevicesHook(execution_device="cpu", io_same_device=True))
    forget_dispatch(model)
    copied = copy.copy(model)
    copied._modules = {**model._modules, "1": nn.Identity()}
    given = torch.ones(1, 2)
    assert torch.equal(copied(given), model[0](given))
