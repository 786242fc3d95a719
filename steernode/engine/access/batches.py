"""Batches: rows grouped by a token budget, halved when memory runs out, and on a CPU worked on by one core each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from heapq import heapreplace
from typing import Protocol, TypeVar
from weakref import WeakSet

import torch

from steernode.engine.access.costs import batch_costs
from steernode.engine.access.devices import free_memory, is_out_of_memory
from steernode.engine.access.models import LoadedModel
from steernode.errors import EngineError

Progress = Callable[[int, int], None]
T = TypeVar("T")
R = TypeVar("R")


class Spare(Protocol):
    """Memory that is kept for later."""

    def release(self) -> None: ...


_spare: WeakSet[Spare] = WeakSet()
# The token budgets that are tried for even batches: so many, each this share of the one before. Where a batch costs something by itself
# there are no lanes to even out, and the padding of large batches is weighed against their number.
_BUDGETS, _BUDGET_STEP = 16, 0.95
_HALVINGS = 6


def batch_by_length(lengths: Sequence[int], max_tokens: int, max_rows: int | None = None) -> list[list[int]]:
    """Indices grouped so that rows times the longest row stays within `max_tokens`; a longer row gets a batch of its own.

    Longest first: if memory runs out it does so at once, and a progress bar speeds up instead of slowing down.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        rows = len(batches[-1]) if batches else 0
        if rows == 0 or (rows + 1) * longest > max_tokens or rows == max_rows:
            batches.append([])
            longest = lengths[index]
        batches[-1].append(index)
    return batches


def batch_for_lanes(make: Callable[[int], list[T]], cost: Callable[[T], float], max_tokens: int, loaded: LoadedModel) -> list[T]:
    """The batches that `make` puts together under that token budget of at most `max_tokens` with which the lanes are done first.

    With full batches all lanes but one may wait for the last of them; small ones pay more often for what every batch costs.
    Dearest first, so that the lanes end together.
    """
    lanes = count_lanes(loaded)
    shares = [_BUDGET_STEP**step for step in range(_BUDGETS if lanes > 1 else 1)]
    if batch_costs(loaded).overhead_tokens:
        shares = [0.5**step for step in range(_HALVINGS)]
    budgets = dict.fromkeys(max(1, round(max_tokens * share)) for share in shares)
    tried = [sorted(make(budget), key=cost, reverse=True) for budget in budgets]
    return min(tried, key=lambda batches: _finish_lanes(map(cost, batches), lanes))


def _finish_lanes(costs: Iterable[float], lanes: int) -> float:
    """When the last of the lanes is done, if the first to be free takes the next batch."""
    busy = [0.0] * lanes
    for cost in costs:
        heapreplace(busy, busy[0] + cost)
    return max(busy)


def halve_on_oom(batch: Sequence[T], work: Callable[[Sequence[T]], R]) -> list[tuple[Sequence[T], R]]:
    """What `work` returns for the batch, or for the parts that fitted in memory, in the order of the batch.

    Raises: EngineError OUT_OF_MEMORY if one row alone does not fit. Every other error passes through.
    """
    try:
        return [(batch, work(batch))]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        message = str(error)
    # Outside the handler, because the error's traceback keeps the tensors of the failed attempt alive.
    for owner in list(_spare):
        owner.release()
    if torch.cuda.is_available():
        free_memory()
    if len(batch) == 1:
        raise EngineError("OUT_OF_MEMORY", f"one row alone does not fit in memory; use shorter conversations or fewer layers: {message}")
    half = len(batch) // 2
    return halve_on_oom(batch[:half], work) + halve_on_oom(batch[half:], work)


def release_on_oom(owner: Spare) -> None:
    """Has `owner` give back what it keeps for later as soon as memory runs out, for as long as it lives."""
    _spare.add(owner)


def count_lanes(loaded: LoadedModel) -> int:
    """How many batches are worked on at a time: one per core of a CPU, else one."""
    return torch.get_num_threads() if loaded.device.type == "cpu" else 1


def in_lanes(work: Callable[[T], R], batches: Sequence[T], loaded: LoadedModel) -> Iterator[R]:
    """The results of the batches as they come, on a CPU one batch per core at a time.

    A core for each batch beats all cores on one: cores that share a batch wait for each other at every operation. A lone batch
    of a small model is left to one core for the same reason.
    """
    threads = count_lanes(loaded)
    is_lone = len(batches) == 1 and not loaded.fits_one_core
    if threads == 1 or not batches or is_lone:
        yield from map(work, batches)
        return
    lanes = min(threads, len(batches))
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(lanes, thread_name_prefix="steernode-lane", initializer=torch.set_num_threads, initargs=(1,))
    try:
        for future in as_completed([pool.submit(work, batch) for batch in batches]):
            yield future.result()
    finally:
        # Whoever stops listening, because a job was cancelled or a batch failed, has no use for the rest.
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
