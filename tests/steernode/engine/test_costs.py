"""What a batch costs by itself: nothing on a core; elsewhere as measured, and few large batches are made of it."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from steernode.engine.access import costs
from steernode.engine.access.costs import BatchCosts, batch_costs, measure_costs
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sending import fetch, send
from steernode.engine.applying.components import Component
from steernode.engine.measuring.margins import margin_items, measure_margins
from steernode.engine.reading import capture as capture_module
from steernode.engine.reading.capture import CaptureSpec, capture_pairs
from steernode.engine.reading.packing import PassCost, pack_prompts
from steernode.engine.reading.window import CaptureStats
from tests.support.tiny_models import make_pairs

# As on the card of docs/benchmarks.md: 15 milliseconds to launch 12 layers, 5.6 microseconds of work for a token.
LAUNCH, WORK = 15e-3, 5.6e-6


def clock(launch: float, work: float, noise: float = 0.0) -> Any:
    drawn = random.Random(1)
    return lambda tokens: max(launch, work * tokens) * (1 + noise * drawn.random())


@pytest.mark.parametrize(
    ("launch", "work", "overhead", "scale"),
    [(LAUNCH, WORK, 4096, 8), (LAUNCH / 4, WORK, 1024, 2), (1e-3, 1e-4, 16, 1), (LAUNCH, 1e-9, 16384, 8)],
)
def test_a_device_that_launches_slower_than_it_computes_gets_larger_batches(launch: float, work: float, overhead: int, scale: int) -> None:
    assert measure_costs(clock(launch, work)) == BatchCosts(overhead, scale)


def out_of_memory_from(tokens: int, error: Exception) -> Any:
    shows = clock(LAUNCH, 1e-9)

    def time_pass(asked: int) -> float:
        if asked >= tokens:
            raise error
        return float(shows(asked))

    return time_pass


def test_a_device_without_room_for_long_passes_is_measured_by_short_ones() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory")
    assert measure_costs(out_of_memory_from(8192, error)) == BatchCosts(4096, 8)
    assert measure_costs(out_of_memory_from(2048, error)) == BatchCosts(0, 1)
    with pytest.raises(RuntimeError, match="another"):
        measure_costs(out_of_memory_from(8192, RuntimeError("another")))


def test_clocks_that_differ_by_little_cut_alike() -> None:
    measured = {measure_costs(clock(LAUNCH * (1 + step / 100), WORK, noise=0.3)) for step in range(-10, 11)}
    assert measured == {BatchCosts(4096, 8)}


def test_a_cpu_is_not_measured_and_its_passes_can_be(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert batch_costs(llama) == BatchCosts(0, 1)
    monkeypatch.setattr(costs, "_LAST_MANY", 2048)
    measured = measure_costs(lambda tokens: costs._time_pass(llama, tokens))
    assert 1 <= measured.scale <= 8
    assert measured.overhead_tokens & (measured.overhead_tokens - 1) == 0


@pytest.fixture
def read(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads pairs as a device of some costs would, and says in how many passes of what shape."""
    shapes: list[torch.Size] = []
    forward = type(llama.decoder).forward

    def counted(self: Any, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        shapes.append(input_ids.shape)
        return forward(self, input_ids, **kwargs)

    def act(found: BatchCosts, pairs: int = 60) -> tuple[torch.Tensor, list[torch.Size], CaptureStats]:
        monkeypatch.setattr(costs, "CORE", found)
        stats = CaptureStats()
        spec = CaptureSpec((1, 2))
        captured = [
            torch.stack([each.positive, each.negative]).clone() for each in capture_pairs(llama, make_pairs(pairs), spec, stats=stats)
        ]
        return torch.cat(captured, dim=1), shapes, stats

    act(BatchCosts())
    monkeypatch.setattr(type(llama.decoder), "forward", counted)
    return act


def test_short_prompts_are_read_in_few_large_batches_where_a_batch_is_dear(read: Any) -> None:
    core, shapes, stats = read(BatchCosts())
    assert stats.overhead_tokens == 0
    passes = len(shapes)
    shapes.clear()
    dear, shapes, stats = read(BatchCosts(4096, 8))
    assert len(shapes) < passes
    assert len(shapes) == 1
    assert stats.overhead_tokens == 4096
    largest = core.abs().max()
    torch.testing.assert_close(dear / largest, core / largest, rtol=0, atol=1e-5)


def test_padding_is_weighed_against_the_number_of_batches(read: Any) -> None:
    _, shapes, _ = read(BatchCosts(4096, 8))
    dear = len(shapes)
    shapes.clear()
    _, shapes, _ = read(BatchCosts(64, 8))
    assert len(shapes) > dear


def test_a_root_is_worth_a_batch_only_if_it_saves_one() -> None:
    prompts = [(*range(20), 30 + row) for row in range(40)]
    reads = [len(prompt) - 1 for prompt in prompts]
    cheap = pack_prompts(prompts, reads, PassCost(1e3, 1.0, 1e3))
    dear = pack_prompts(prompts, reads, PassCost(1e3, 1.0, 1e3, batch=1e3 * 4096))
    assert [len(group.root) for group in cheap] == [20]
    assert [len(group.root) for group in dear] == [0]


def test_windows_and_forced_passes_grow_with_the_device(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = CaptureSpec(tuple(range(3)))
    monkeypatch.setattr(capture_module, "WINDOW_BYTES", 4 * 2 * 3 * llama.d_model * 4)
    assert capture_module.window_pairs(llama, spec) == 4
    items = margin_items(llama, make_pairs(8), max_new_tokens=6)
    variants = [[Component(torch.nn.functional.normalize(torch.ones(llama.d_model), dim=0), 1, alpha)] for alpha in (0.0, 2.0, -2.0)]
    core = measure_margins(llama, items, variants)
    monkeypatch.setattr(costs, "CORE", BatchCosts(4096, 8))
    assert capture_module.window_pairs(llama, spec) == 32
    torch.testing.assert_close(torch.from_numpy(measure_margins(llama, items, variants)), torch.from_numpy(core), rtol=1e-4, atol=1e-4)


def test_what_is_sent_and_fetched_on_a_cpu_is_the_tensor_itself() -> None:
    tensor = torch.ones(3)
    assert send(tensor, torch.device("cpu")) is tensor
    assert fetch(tensor)() is tensor
