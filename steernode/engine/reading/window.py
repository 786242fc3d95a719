"""One window of conversations: read in the batches that cost least, packed where that saves enough, else plain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from steernode.engine.access.batches import batch_by_length, batch_for_lanes, count_lanes, halve_on_oom
from steernode.engine.access.costs import batch_costs
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sending import fetch
from steernode.engine.reading.packing import PackedBatch, PackedBlock, batch_blocks, pack_prompts
from steernode.engine.reading.passes import Columns, Read, pass_cost, read_packed, read_plain, read_roots
from steernode.engine.reading.selfcheck import check_packable

# Twice for each doubling of a device's scale, unless told otherwise.
MAX_BATCH_TOKENS = 4096
# A core works from its cache, which larger batches overflow; small ones also pad less and spread better over cores.
_CPU_BATCH_TOKENS = 1024
# What every batch costs a core per layer, whatever is in it: half a millisecond, in which it would have computed this many operations.
# Between lanes it counts; one way against another it does not, since both have as many.
_BATCH_OPERATIONS = 1e8
# Packing has to save this much of the work, as counted, before it is worth its bookkeeping.
_PACK_BELOW = 0.9


@dataclass
class CaptureStats:
    """What a capture did, filled in as it goes. Tokens of padding count as computed; `reasons` says why a window was read plain, and
    `overhead_tokens` what a batch was taken to cost by itself."""

    pairs: int = 0
    asked_tokens: int = 0
    computed_tokens: int = 0
    packed_windows: int = 0
    plain_windows: int = 0
    overhead_tokens: int = 0
    reasons: tuple[str, ...] = ()

    def to_document(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class Asked:
    """The rows of one window, and the columns to read of each."""

    rows: Sequence[tuple[int, ...]]
    columns: Sequence[tuple[int, ...]]
    read: Read
    max_batch_tokens: int | None


# Rows of the window, and what gives their values, for each part of a batch.
Work = Callable[[], list[tuple[Sequence[int], Callable[[], Tensor]]]]


def plan_window(loaded: LoadedModel, asked: Asked, stats: CaptureStats) -> list[Work]:
    """The batches of one window, packed if that saves enough and this model was shown to take it, else plain."""
    tokens = sum(map(len, asked.rows))
    stats.asked_tokens += tokens
    stats.overhead_tokens = batch_costs(loaded).overhead_tokens
    cost, budget = pass_cost(loaded), asked.max_batch_tokens or MAX_BATCH_TOKENS * batch_costs(loaded).scale
    if not cost.batch:
        # From two even shares on down, so that few rows are spread over many lanes.
        budget = min(budget, _CPU_BATCH_TOKENS, -(-2 * tokens // max(2, count_lanes(loaded))))
    by_itself = cost.batch or _BATCH_OPERATIONS

    def cost_plain(batch: Sequence[int]) -> float:
        return cost.plain(len(batch), _longest(asked.rows, batch))

    def batch_packed(budget: int) -> list[PackedBatch]:
        return [batch for group in groups for batch in batch_blocks(group, budget)]

    plain = batch_for_lanes(partial(_batch_plain, loaded, asked.rows), lambda batch: by_itself + cost_plain(batch), budget, loaded)
    groups = pack_prompts(asked.rows, [columns[0] for columns in asked.columns], cost)
    packed = batch_for_lanes(batch_packed, lambda batch: by_itself + batch.cost(cost), budget, loaded)
    roots = list(dict.fromkeys(batch.root for batch in packed if batch.root))
    rooted = batch_by_length([len(root) for root in roots], budget)
    root_passes = [(len(batch), len(roots[batch[0]])) for batch in rooted]
    packed_cost = sum(cost.batch + batch.cost(cost) for batch in packed) + sum(cost.batch + cost.plain(*shape) for shape in root_passes)
    plain_cost = sum(cost.batch + cost_plain(batch) for batch in plain)
    reason = _refuse_packing(loaded, packed_cost / plain_cost, _longest(asked.rows, range(len(asked.rows))))
    if not reason:
        stats.packed_windows += 1
        stats.computed_tokens += sum(batch.computed_tokens for batch in packed) + sum(rows * columns for rows, columns in root_passes)
        caches: dict[tuple[int, ...], Cache] = {}
        for batch in rooted:
            for part, found in halve_on_oom([roots[index] for index in batch], lambda some: read_roots(loaded, some, asked.read)):
                caches |= dict(zip(part, found, strict=True))
        window = check_packable(loaded).window
        return [partial(_read_blocks, loaded, asked, batch, window, caches.get(batch.root)) for batch in packed]
    stats.plain_windows += 1
    stats.reasons = tuple(dict.fromkeys([*stats.reasons, reason]))
    stats.computed_tokens += sum(len(batch) * _longest(asked.rows, batch) for batch in plain)
    return [partial(_read_rows, loaded, asked, batch) for batch in plain]


def _batch_plain(loaded: LoadedModel, rows: Sequence[tuple[int, ...]], budget: int) -> list[list[int]]:
    """Rows by length. In half precision both sides of a pair share a batch: there the shape of a batch shows in the rounding,
    and a difference between batches could pass for a difference between sides. In float32 it is below 1e-6.
    """
    if loaded.dtype == torch.float32:
        return batch_by_length([len(row) for row in rows], budget)
    longest = [max(len(rows[side]), len(rows[side + 1])) for side in range(0, len(rows), 2)]
    return [[side for pair in batch for side in (2 * pair, 2 * pair + 1)] for batch in batch_by_length(longest, budget // 2)]


def _longest(rows: Sequence[tuple[int, ...]], batch: Iterable[int]) -> int:
    return max(len(rows[row]) for row in batch)


def _refuse_packing(loaded: LoadedModel, share: float, longest: int) -> str:
    """Why this window is read plain; empty if it is packed. The check of the model comes last, because it costs a few passes."""
    if share > _PACK_BELOW:
        return "the prompts share too little"
    packability = check_packable(loaded)
    if not packability.is_packable:
        return f"{loaded.manifest.architecture}: {packability.reason}"
    if packability.max_columns is not None and longest > packability.max_columns:
        return f"a prompt is longer than the {packability.max_columns} tokens of the sliding window"
    return ""


def _read_rows(loaded: LoadedModel, asked: Asked, batch: Sequence[int]) -> list[tuple[Sequence[int], Callable[[], Tensor]]]:
    def read(rows: Sequence[int]) -> Callable[[], Tensor]:
        wanted = [Columns(place, asked.columns[row]) for place, row in enumerate(rows)]
        return fetch(read_plain(loaded, [asked.rows[row] for row in rows], wanted, asked.read))

    return halve_on_oom(batch, read)


def _read_blocks(
    loaded: LoadedModel, asked: Asked, batch: PackedBatch, window: int | None, cache: Cache | None
) -> list[tuple[Sequence[int], Callable[[], Tensor]]]:
    root = batch.root

    def read(blocks: Sequence[PackedBlock]) -> Callable[[], Tensor]:
        wanted = [
            Columns(place, [int(path[column - len(root)]) for column in asked.columns[row]])
            for place, block in enumerate(blocks)
            for row, path in zip(block.rows, block.paths, strict=True)
        ]
        return fetch(read_packed(loaded, root, blocks, wanted, asked.read, window, cache))

    return [([row for block in blocks for row in block.rows], reads) for blocks, reads in halve_on_oom(batch.blocks, read)]
