"""Capture: the states of contrast pairs at every wanted layer and the read positions, streamed window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from steerkit.canonical import parse_layer
from steerkit.contrast import ContrastPair
from steerkit.engine.access.batches import Progress, batch_by_length, halve_on_oom, in_lanes
from steerkit.engine.access.encoding import EncodedConversation, encode_dialogues, encode_prompts
from steerkit.engine.access.models import LoadedModel
from steerkit.engine.access.sites import check_layer_site, check_site
from steerkit.engine.reading.packing import PackedBatch, PackedBlock, batch_blocks, pack_prompts
from steerkit.engine.reading.passes import Columns, Read, pass_cost, read_packed, read_plain, read_roots
from steerkit.engine.reading.selfcheck import check_packable
from steerkit.engine.reading.triggers import ReadPosition, Trigger, parse_read_position, read_columns
from steerkit.errors import EngineError

MAX_BATCH_TOKENS = 4096
# A core works from its cache, which larger batches overflow; small ones also pad less and spread better over cores.
_CPU_BATCH_TOKENS = 1024
# What a window of pairs may hold of activations; windows bound memory, and prefixes are shared inside one.
WINDOW_BYTES = 64 * 2**20
MAX_WINDOW_PAIRS = 512
# Packing has to save this much of the work, as counted, before it is worth its bookkeeping.
_PACK_BELOW = 0.9
T = TypeVar("T")


@dataclass(frozen=True)
class CaptureSpec:
    """What to read: which layers at which site, and over which tokens of each conversation."""

    layers: tuple[int, ...]
    site: str = "resid_post"
    read_position: ReadPosition = "last_prompt_token"


@dataclass
class CaptureStats:
    """What a capture did, filled in as it goes. Tokens of padding count as computed; `reasons` says why a window was read plain."""

    pairs: int = 0
    asked_tokens: int = 0
    computed_tokens: int = 0
    packed_windows: int = 0
    plain_windows: int = 0
    reasons: tuple[str, ...] = ()

    def to_document(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class EncodedPair:
    """Both sides of a pair as token ids. `id` is what an error calls it."""

    id: str
    positive: EncodedConversation
    negative: EncodedConversation


@dataclass(frozen=True, eq=False)
class CapturedPairs:
    """Both sides of some pairs: (pairs, layers, d_model) float32 on the CPU, row i of both from pair `first + i`.

    The tensors are a buffer that the next window overwrites: copy what is to be kept.
    """

    first: int
    positive: Tensor
    negative: Tensor


def capture_spec(
    loaded: LoadedModel,
    *,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    read_position: ReadPosition = "last_prompt_token",
) -> CaptureSpec:
    """All layers that have the site unless told otherwise, each checked against the model.

    Raises: LayerError LAYER_RANGE, EngineError SITE_UNKNOWN, SITE_LAYER, SITE_ABSENT, READ_POSITION_UNKNOWN, LAYERS_EMPTY.
    """
    check_site(site)
    position = parse_read_position(read_position)
    everywhere = range(1 if site == "embedding" else loaded.n_layers)
    wanted = everywhere if layers is None else sorted({parse_layer(layer, loaded.n_layers) for layer in layers})
    if not wanted:
        raise EngineError("LAYERS_EMPTY", "no layers to read; name at least one")
    for layer in wanted:
        check_layer_site(loaded, layer, site)
    return CaptureSpec(tuple(wanted), site, position)


def read_activations(loaded: LoadedModel, conversations: Sequence[EncodedConversation], spec: CaptureSpec) -> Tensor:
    """One vector per conversation and layer: the mean over its read positions. One plain pass of one batch.

    Returns: (conversations, layers, d_model) float32, in the order of `spec.layers`.
    """
    wanted = [
        Columns(row, read_columns(conversation, spec.read_position, f"conversation {row}"))
        for row, conversation in enumerate(conversations)
    ]
    return read_plain(loaded, [conversation.token_ids for conversation in conversations], wanted, Read(spec.site, spec.layers))


def encode_pairs(loaded: LoadedModel, pairs: Sequence[ContrastPair], spec: CaptureSpec) -> list[EncodedPair]:
    """Both sides through the chat template. Conversations are prompts, or dialogues where what the assistant said may be read.

    Raises: EngineError CONVERSATION_ROLE, CHAT_TEMPLATE, NO_ASSISTANT_TOKENS, CONTEXT_LENGTH, each naming the pair.
    """
    sides = [side for pair in pairs for side in (pair.positive, pair.negative)]
    names = [pair.id for pair in pairs for _ in range(2)]
    if spec.read_position == "last_prompt_token":
        encoded = encode_prompts(loaded, sides, names=names)
    elif spec.read_position == "assistant_tokens":
        encoded = encode_dialogues(loaded, sides, names=names)
    else:
        encoded = _encode_as_they_end(loaded, sides, names, with_text=isinstance(spec.read_position, Trigger))
    return [EncodedPair(pair.id, encoded[2 * index], encoded[2 * index + 1]) for index, pair in enumerate(pairs)]


def _encode_as_they_end(loaded: LoadedModel, sides: Sequence[Any], names: Sequence[str], *, with_text: bool) -> list[EncodedConversation]:
    answered = [bool(side) and side[-1].role == "assistant" for side in sides]
    prompts = [index for index, is_answered in enumerate(answered) if not is_answered]
    dialogues = [index for index, is_answered in enumerate(answered) if is_answered]
    names_of_prompts, names_of_dialogues = [names[index] for index in prompts], [names[index] for index in dialogues]
    encoded = dict(
        zip(prompts, encode_prompts(loaded, [sides[i] for i in prompts], names=names_of_prompts, with_text=with_text), strict=True)
    )
    answers = encode_dialogues(loaded, [sides[i] for i in dialogues], names=names_of_dialogues, mark_assistant=False, with_text=with_text)
    encoded |= dict(zip(dialogues, answers, strict=True))
    return [encoded[index] for index in range(len(sides))]


def capture_pairs(
    loaded: LoadedModel,
    pairs: Iterable[ContrastPair],
    spec: CaptureSpec,
    *,
    max_batch_tokens: int = MAX_BATCH_TOKENS,
    on_progress: Progress | None = None,
    stats: CaptureStats | None = None,
) -> Iterator[CapturedPairs]:
    """The states of both sides, in the order of the pairs, a window of pairs at a time whatever their number.

    `on_progress(done, total)` counts pairs; of a stream of unknown length, the total is what has been taken from it so far.

    Raises: EngineError NON_FINITE naming the pair and the layer, TRIGGER_EMPTY, OUT_OF_MEMORY, and the codes of `encode_pairs`.
    """
    window = window_pairs(loaded, spec)
    encoded = (encode_pairs(loaded, chunk, spec) for chunk in _windows(pairs, window))
    yield from _capture(loaded, encoded, spec, window, max_batch_tokens, on_progress, stats, _count(pairs))


def capture_encoded(
    loaded: LoadedModel,
    pairs: Iterable[EncodedPair],
    spec: CaptureSpec,
    *,
    max_batch_tokens: int = MAX_BATCH_TOKENS,
    on_progress: Progress | None = None,
    stats: CaptureStats | None = None,
) -> Iterator[CapturedPairs]:
    """`capture_pairs` of pairs that are already token ids."""
    window = window_pairs(loaded, spec)
    yield from _capture(loaded, _windows(pairs, window), spec, window, max_batch_tokens, on_progress, stats, _count(pairs))


def window_pairs(loaded: LoadedModel, spec: CaptureSpec) -> int:
    """How many pairs are read before their activations are handed on."""
    bytes_per_pair = 2 * len(spec.layers) * loaded.d_model * 4
    return max(1, min(MAX_WINDOW_PAIRS, WINDOW_BYTES // bytes_per_pair))


def _windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window


def _count(items: Iterable[Any]) -> int | None:
    return len(items) if isinstance(items, Sized) else None


def _capture(
    loaded: LoadedModel,
    windows: Iterable[list[EncodedPair]],
    spec: CaptureSpec,
    size: int,
    max_batch_tokens: int,
    on_progress: Progress | None,
    stats: CaptureStats | None,
    total: int | None,
) -> Iterator[CapturedPairs]:
    stats = CaptureStats() if stats is None else stats
    rows = 2 * (size if total is None else min(size, total))
    buffer = torch.empty(rows, len(spec.layers), loaded.d_model)
    first = 0
    for window in windows:
        sides = [side for pair in window for side in (pair.positive, pair.negative)]
        columns = [read_columns(side, spec.read_position, window[index // 2].id) for index, side in enumerate(sides)]
        asked = _Asked([side.token_ids for side in sides], columns, Read(spec.site, spec.layers), max_batch_tokens)
        reads = buffer[: len(sides)]
        done = 0
        for parts in in_lanes(_do, _plan(loaded, asked, stats), loaded):
            before = done
            for owners, part in parts:
                _refuse_non_finite(part, [window[owner // 2].id for owner in owners], spec)
                reads[torch.tensor(owners)] = part
                done += len(owners)
            if on_progress is not None and done // 2 > before // 2:
                on_progress(first + done // 2, total if total is not None else first + len(window))
        yield CapturedPairs(first, reads[0::2], reads[1::2])
        first += len(window)
        stats.pairs = first


@dataclass(frozen=True)
class _Asked:
    """The rows of one window, and the columns to read of each."""

    rows: Sequence[tuple[int, ...]]
    columns: Sequence[tuple[int, ...]]
    read: Read
    max_batch_tokens: int


Work = Callable[[], list[tuple[Sequence[int], Tensor]]]


def _do(work: Work) -> list[tuple[Sequence[int], Tensor]]:
    return work()


def _plan(loaded: LoadedModel, asked: _Asked, stats: CaptureStats) -> list[Work]:
    """The batches of one window, packed if that saves enough and this model was shown to take it, else plain."""
    stats.asked_tokens += sum(map(len, asked.rows))
    budget = asked.max_batch_tokens
    if loaded.device.type == "cpu":
        budget = min(budget, _CPU_BATCH_TOKENS, max(1, sum(map(len, asked.rows)) // torch.get_num_threads()))
    plain = _batch_plain(loaded, asked.rows, budget)
    cost = pass_cost(loaded)
    groups = pack_prompts(asked.rows, [columns[0] for columns in asked.columns], cost)
    packed = [batch for group in groups for batch in batch_blocks(group, budget)]
    roots = list(dict.fromkeys(batch.root for batch in packed if batch.root))
    rooted = batch_by_length([len(root) for root in roots], budget)
    root_passes = [(len(batch), len(roots[batch[0]])) for batch in rooted]
    packed_cost = sum(batch.cost(cost) for batch in packed) + sum(cost.plain(*shape) for shape in root_passes)
    plain_cost = sum(cost.plain(len(batch), _longest(asked.rows, batch)) for batch in plain)
    reason = _refuse_packing(loaded, packed_cost / plain_cost, _longest(asked.rows, range(len(asked.rows))))
    if not reason:
        stats.packed_windows += 1
        stats.computed_tokens += sum(batch.computed_tokens for batch in packed) + sum(rows * columns for rows, columns in root_passes)
        caches: dict[tuple[int, ...], Cache] = {}
        for batch in rooted:
            for part, found in halve_on_oom([roots[index] for index in batch], lambda some: read_roots(loaded, some, asked.read)):
                caches |= dict(zip(part, found, strict=True))
        window = check_packable(loaded).window
        packed.sort(key=lambda batch: -batch.computed_tokens)
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


def _read_rows(loaded: LoadedModel, asked: _Asked, batch: Sequence[int]) -> list[tuple[Sequence[int], Tensor]]:
    def read(rows: Sequence[int]) -> Tensor:
        wanted = [Columns(place, asked.columns[row]) for place, row in enumerate(rows)]
        return read_plain(loaded, [asked.rows[row] for row in rows], wanted, asked.read).cpu()

    return halve_on_oom(batch, read)


def _read_blocks(
    loaded: LoadedModel, asked: _Asked, batch: PackedBatch, window: int | None, cache: Cache | None
) -> list[tuple[Sequence[int], Tensor]]:
    root = batch.root

    def read(blocks: Sequence[PackedBlock]) -> Tensor:
        wanted = [
            Columns(place, [int(path[column - len(root)]) for column in asked.columns[row]])
            for place, block in enumerate(blocks)
            for row, path in zip(block.rows, block.paths, strict=True)
        ]
        return read_packed(loaded, root, blocks, wanted, asked.read, window, cache).cpu()

    return [([row for block in blocks for row in block.rows], reads) for blocks, reads in halve_on_oom(batch.blocks, read)]


def _refuse_non_finite(reads: Tensor, pair_ids: Sequence[str], spec: CaptureSpec) -> None:
    finite = torch.isfinite(reads).all(dim=-1)
    if finite.all():
        return
    row, layer = (~finite).nonzero()[0].tolist()
    raise EngineError(
        "NON_FINITE",
        f"pair {pair_ids[row]!r} has an activation at layer {spec.layers[layer]} that is not finite; load the model in float32",
        pair_ids[row],
    )
