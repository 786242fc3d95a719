"""Batches: within budget, halved when memory runs out, and one core each."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steernode.engine.access.batches import batch_by_length, batch_for_lanes, halve_on_oom, in_lanes, is_out_of_memory
from steernode.engine.access.models import LoadedModel
from steernode.errors import EngineError

CPU_ALLOCATOR = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"


def test_one_row_that_does_not_fit_is_an_error_with_a_code() -> None:
    def work(_rows: Sequence[int]) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(EngineError) as refused:
        halve_on_oom([1, 2, 3], work)
    assert refused.value.code == "OUT_OF_MEMORY"


def test_an_error_that_is_not_about_memory_passes_through_at_once() -> None:
    calls = []

    def work(rows: Sequence[int]) -> int:
        calls.append(list(rows))
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        halve_on_oom([1, 2, 3], work)
    assert calls == [[1, 2, 3]]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(CPU_ALLOCATOR), MemoryError()])
def test_a_batch_is_halved_until_its_parts_fit_and_keeps_its_order(error: Exception) -> None:
    def work(rows: Sequence[int]) -> int:
        if len(rows) > 3:
            raise error
        return sum(rows)

    parts = halve_on_oom(list(range(10)), work)
    assert [row for rows, _ in parts for row in rows] == list(range(10))
    assert all(len(rows) <= 3 and total == sum(rows) for rows, total in parts)


def test_the_real_allocator_is_understood() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(refused.value)


@given(lengths=st.lists(st.integers(1, 50), max_size=30), budget=st.integers(1, 120), rows=st.integers(1, 8))
def test_batches_hold_every_row_once_and_stay_in_budget(lengths: list[int], budget: int, rows: int) -> None:
    batches = batch_by_length(lengths, budget, rows)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= rows
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40), threads=st.integers(1, 4), overhead=st.floats(0, 100))
def test_batches_for_lanes_are_never_done_later_than_full_ones(
    llama: LoadedModel, lengths: list[int], threads: int, overhead: float
) -> None:
    def make(budget: int) -> list[list[int]]:
        return batch_by_length(lengths, budget)

    def cost(batch: list[int]) -> float:
        return overhead + len(batch) * max(lengths[index] for index in batch)

    def done(batches: list[list[int]]) -> float:
        busy = [0.0] * threads
        for batch in sorted(batches, key=cost, reverse=True):
            busy[busy.index(min(busy))] += cost(batch)
        return max(busy)

    torch.set_num_threads(threads)
    try:
        batches = batch_for_lanes(make, cost, 120, llama)
    finally:
        torch.set_num_threads(1)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert done(batches) <= done(make(120)) + 1e-9


def test_the_last_batch_does_not_keep_one_lane_busy_alone(llama: LoadedModel) -> None:
    torch.set_num_threads(2)
    try:
        batches = batch_for_lanes(lambda budget: batch_by_length([10] * 24, budget), lambda batch: 10.0 * len(batch), 100, llama)
        # Full batches would be 10, 10 and 4 rows, and the last would keep one lane busy alone.
        assert [len(batch) for batch in batches] == [6, 6, 6, 6]
    finally:
        torch.set_num_threads(1)


def test_lanes_use_one_core_each_and_give_the_cores_back(llama: LoadedModel) -> None:
    torch.set_num_threads(2)
    try:
        found = sorted(in_lanes(lambda item: (item, torch.get_num_threads(), threading.get_ident()), range(6), llama))
        assert [(item, cores) for item, cores, _ in found] == [(item, 1) for item in range(6)]
        assert threading.get_ident() not in {thread for _, _, thread in found}
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            list(in_lanes(lambda item: 1 // item, [0, 0, 1], llama))
        # A lone batch of a model this small is one core's, too.
        assert list(in_lanes(lambda _item: torch.get_num_threads(), [0], llama)) == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
