"""Packing: tokens of many prompts as a trie, in which every shared prefix is computed once. Exact under causal attention but for rounding.

A node of the trie is a token after one particular prefix. Its state depends on that prefix alone, so it is computed once,
whatever the number of prompts that pass through it: its position is its depth, and it sees its ancestors and itself. Nodes
are laid out in blocks, with a mask that says who sees whom, and blocks that share a long root read it from a small cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# What a batch of its own costs a group that has a root, in tokens: small batches keep a processor from its best speed.
ROOT_OVERHEAD_TOKENS = 64
# Fewer prompts share a prefix inside a block, which needs no pass of its own.
MIN_ROOT_PROMPTS = 8
MAX_BLOCK_NODES = 1024


@dataclass(frozen=True)
class PassCost:
    """What a pass costs per layer, in floating-point operations: per token, and per token that another token may see.

    `masked` is the second under a dense mask, whose kernels are slower and cannot skip the half that is not seen. `batch` is what a
    batch costs by itself, where that is worth counting.
    """

    token: float
    seen: float
    masked: float
    batch: float = 0.0

    @property
    def root_tokens(self) -> float:
        """What a root has to save: its group is computed in batches of its own."""
        return max(ROOT_OVERHEAD_TOKENS, self.batch / self.token)

    def plain(self, rows: int, columns: int) -> float:
        return rows * columns * (self.token + self.seen * columns / 2)

    def packed(self, nodes: int, root: int) -> float:
        return nodes * (self.token + self.masked * (nodes + root))


@dataclass
class PackedBlock:
    """Distinct nodes of the trie below a root, in an order in which ancestors come first.

    `paths[i]` are the nodes of prompt `rows[i]` below the root, from its first token to its last.
    """

    token_ids: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    paths: list[NDArray[np.int64]] = field(default_factory=list)
    _new: list[tuple[int, int]] = field(default_factory=list)

    def add(self, row: int, suffix: Sequence[int], shared: int) -> None:
        """A prompt whose first `shared` tokens are those of the last prompt added."""
        start = len(self.token_ids)
        self.token_ids.extend(suffix[shared:])
        new = np.arange(start, len(self.token_ids))
        self.paths.append(np.concatenate([self.paths[-1][:shared], new]) if shared else new)
        self.rows.append(row)
        self._new.append((start, shared))

    def append(self, other: PackedBlock) -> None:
        """Another block beside this one: no node of either sees one of the other."""
        offset = len(self.token_ids)
        self.token_ids.extend(other.token_ids)
        self.rows.extend(other.rows)
        self.paths.extend(path + offset for path in other.paths)
        self._new.extend((start + offset, shared) for start, shared in other._new)

    def depths(self) -> NDArray[np.int64]:
        """(nodes,): how many ancestors a node has below the root."""
        depths = np.empty(len(self.token_ids), dtype=np.int64)
        for path in self.paths:
            depths[path] = np.arange(len(path))
        return depths

    def visible(self) -> NDArray[np.bool_]:
        """(nodes, nodes): row i is true at the ancestors of node i and at i itself."""
        nodes = len(self.token_ids)
        visible = np.zeros((nodes, nodes), dtype=np.bool_)
        for path, (start, shared) in zip(self.paths, self._new, strict=True):
            stop = start + len(path) - shared
            visible[start:stop, path[:shared]] = True
            visible[start:stop, start:stop] = np.tri(stop - start, dtype=np.bool_)
        return visible


@dataclass(frozen=True)
class PackedGroup:
    """Blocks below one root: the tokens that all their prompts begin with, computed once for each batch of blocks."""

    root: tuple[int, ...]
    blocks: tuple[PackedBlock, ...]

    @property
    def nodes(self) -> int:
        return sum(len(block.token_ids) for block in self.blocks)


def pack_prompts(prompts: Sequence[Sequence[int]], first_reads: Sequence[int], cost: PassCost) -> list[PackedGroup]:
    """Lays out every distinct node of the prompts once, except where computing it again is cheaper than seeing more nodes.

    `first_reads[i]` is the first column of prompt i that is read: a root ends before it, because only blocks are read.
    Depends on the prompts alone and not on their order.
    """
    order = sorted(range(len(prompts)), key=lambda row: tuple(prompts[row]))
    arrays = [np.asarray(prompts[row], dtype=np.int64) for row in order]
    shared = [0, *(_common(one, other) for one, other in pairwise(arrays))]
    limits = [min(first_reads[row], len(prompts[row]) - 1) for row in order]
    groups = []
    for start, stop, root in _choose_roots(shared, limits, cost.root_tokens):
        blocks: list[PackedBlock] = []
        for place in range(start, stop):
            suffix = prompts[order[place]][root:]
            common = max(0, shared[place] - root) if place > start else 0
            if not blocks or not _is_cheaper_together(len(blocks[-1].token_ids), len(suffix), common, root, cost):
                blocks.append(PackedBlock())
                common = 0
            blocks[-1].add(order[place], suffix, common)
        groups.append(PackedGroup(tuple(prompts[order[start]][:root]), tuple(_fill_rows(blocks))))
    return groups


def _fill_rows(blocks: Sequence[PackedBlock]) -> list[PackedBlock]:
    """Small blocks put beside large ones, so that the rows of a batch are of one length and little of it is padding.

    First fit, largest first. A block under a quarter of the longest starts rows of its own: it would see too many strangers.
    """
    waiting = sorted(blocks, key=lambda block: (-len(block.token_ids), block.rows[0]))
    rows: list[PackedBlock] = []
    while waiting:
        longest = len(waiting[0].token_ids)
        filled: list[PackedBlock] = []
        left: list[PackedBlock] = []
        # Rows that are full enough are passed over, so that this stays near linear.
        first_open = 0
        for block in waiting:
            nodes = len(block.token_ids)
            place = next((row for row in range(first_open, len(filled)) if len(filled[row].token_ids) + nodes <= longest), None)
            if place is not None:
                filled[place].append(block)
            elif 4 * nodes > longest:
                filled.append(block)
            else:
                left.append(block)
            while first_open < len(filled) and 16 * (longest - len(filled[first_open].token_ids)) < longest:
                first_open += 1
        rows.extend(filled)
        waiting = left
    return rows


@dataclass(frozen=True)
class PackedBatch:
    """Rows of one group that are computed together, below its root."""

    root: tuple[int, ...]
    blocks: tuple[PackedBlock, ...]

    @property
    def columns(self) -> int:
        return max(len(block.token_ids) for block in self.blocks)

    @property
    def computed_tokens(self) -> int:
        """Nodes and padding."""
        return len(self.blocks) * self.columns

    def cost(self, cost: PassCost) -> float:
        """Operations per layer, without those of the root."""
        overhead = ROOT_OVERHEAD_TOKENS * cost.token if self.root else 0.0
        return overhead + len(self.blocks) * cost.packed(self.columns, len(self.root))


def batch_blocks(group: PackedGroup, max_tokens: int) -> list[PackedBatch]:
    """Rows of a group in batches of at most `max_tokens` with padding, none more than twice as long as another."""
    batches: list[list[PackedBlock]] = []
    for block in sorted(group.blocks, key=lambda block: -len(block.token_ids)):
        longest = len(batches[-1][0].token_ids) if batches else 0
        if not batches or (len(batches[-1]) + 1) * longest > max_tokens or 2 * len(block.token_ids) < longest:
            batches.append([])
        batches[-1].append(block)
    return [PackedBatch(group.root, tuple(batch)) for batch in batches]


def _common(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    first = int(differs.argmax()) if length else 0
    return first if length and differs[first] else length


def _is_cheaper_together(nodes: int, tokens: int, common: int, root: int, cost: PassCost) -> bool:
    """Whether a prompt joins a block: what it shares against the extra nodes that all of them then see."""
    together = nodes + tokens - common
    if together > max(MAX_BLOCK_NODES, nodes):
        return False
    return cost.packed(together, root) <= cost.packed(nodes, root) + cost.packed(tokens, root)


@dataclass
class _Interval:
    """Sorted prompts `start` to `stop` that share at least `common` tokens, and the intervals inside that share more."""

    start: int
    stop: int
    common: int
    children: list[_Interval] = field(default_factory=list)
    root: int = 0
    gain: float = 0.0


def _choose_roots(shared: Sequence[int], limits: Sequence[int], root_tokens: float) -> Iterator[tuple[int, int, int]]:
    """(start, stop, root length) of every group, covering all sorted prompts; root 0 where nothing is worth a pass of its own.

    Every interval of the trie is either one group, which saves its root for all prompts but one, or left to its children,
    whichever saves more tokens.
    """
    whole = _build_intervals(shared, limits)
    pending, ordered = [whole], []
    while pending:
        interval = pending.pop()
        ordered.append(interval)
        pending.extend(interval.children)
    for interval in reversed(ordered):
        inside = sum(child.gain for child in interval.children)
        interval.root = min(interval.common, min(limits[interval.start : interval.stop]))
        own = (interval.stop - interval.start - 1) * interval.root - root_tokens
        is_root = interval.stop - interval.start >= MIN_ROOT_PROMPTS and own > max(inside, 0.0)
        interval.gain = max(inside, own if is_root else 0.0, 0.0)
        if is_root:
            interval.children = []
        else:
            interval.root = 0
    yield from _list_groups(whole)


def _build_intervals(shared: Sequence[int], limits: Sequence[int]) -> _Interval:
    """The tree of intervals of equal common prefix, by one sweep with a stack over the sorted prompts."""
    stack = [_Interval(0, 0, 0)]
    for place in range(1, len(shared) + 1):
        common = shared[place] if place < len(shared) else 0
        start = place - 1
        last: _Interval | None = None
        while stack[-1].common > common:
            last = stack.pop()
            last.stop, start = place, last.start
            if stack[-1].common >= common:
                stack[-1].children.append(last)
                last = None
        if stack[-1].common < common:
            stack.append(_Interval(start, 0, common, [last] if last is not None else []))
        elif last is not None:
            stack[-1].children.append(last)
    stack[0].stop = len(limits)
    return stack[0]


def _list_groups(interval: _Interval) -> Iterator[tuple[int, int, int]]:
    """Depth first without recursion, because prompts can nest as deeply as they are long."""
    loose = interval.start
    pending = [interval]
    chosen = []
    while pending:
        current = pending.pop()
        if current.root:
            chosen.append(current)
        else:
            pending.extend(current.children)
    for group in sorted(chosen, key=lambda group: group.start):
        if loose < group.start:
            yield loose, group.start, 0
        yield group.start, group.stop, group.root
        loose = group.stop
    if loose < interval.stop:
        yield loose, interval.stop, 0
