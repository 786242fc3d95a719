"""Capture: the states of contrast pairs at every wanted layer and the read positions, streamed window by window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from steernode.canonical import parse_layer
from steernode.engine.access.batches import Progress, in_lanes
from steernode.engine.access.costs import batch_costs
from steernode.engine.access.encoding import EncodedConversation, encode_dialogues, encode_prompts
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import check_layer_site, check_site
from steernode.engine.reading.passes import Columns, Read, read_plain
from steernode.engine.reading.triggers import ReadPosition, Trigger, parse_read_position, read_columns
from steernode.engine.reading.window import Asked, CaptureStats, plan_window
from steernode.errors import EngineError
from steernode.files.contrast import ContrastPair
from steernode.gates import candidate_layers

# What a window of pairs may hold of activations on a core, and so many times that on a device of a larger scale; windows bound memory,
# and prefixes are shared inside one.
WINDOW_BYTES = 64 * 2**20
MAX_WINDOW_PAIRS = 512
T = TypeVar("T")


@dataclass(frozen=True)
class CaptureSpec:
    """What to read: which layers at which site, and over which tokens of each conversation."""

    layers: tuple[int, ...]
    site: str = "resid_post"
    read_position: ReadPosition = "last_prompt_token"


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
    loaded: LoadedModel, *, layers: Sequence[int] | None = None, site: str = "resid_post", read_position: ReadPosition = "last_prompt_token"
) -> CaptureSpec:
    """The layers that have the site and that the default gates allow, unless told otherwise; each checked against the model.

    Raises: LayerError LAYER_RANGE, EngineError SITE_UNKNOWN, SITE_LAYER, SITE_ABSENT, READ_POSITION_UNKNOWN, LAYERS_EMPTY.
    """
    check_site(site)
    position = parse_read_position(read_position)
    candidates = [0] if site == "embedding" else candidate_layers(loaded.n_layers)
    wanted = candidates if layers is None else sorted({parse_layer(layer, loaded.n_layers) for layer in layers})
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
    max_batch_tokens: int | None = None,
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
    max_batch_tokens: int | None = None,
    on_progress: Progress | None = None,
    stats: CaptureStats | None = None,
) -> Iterator[CapturedPairs]:
    """`capture_pairs` of pairs that are already token ids."""
    window = window_pairs(loaded, spec)
    yield from _capture(loaded, _windows(pairs, window), spec, window, max_batch_tokens, on_progress, stats, _count(pairs))


def window_pairs(loaded: LoadedModel, spec: CaptureSpec) -> int:
    """How many pairs are read before their activations are handed on."""
    bytes_per_pair = 2 * len(spec.layers) * loaded.d_model * 4
    return max(1, min(MAX_WINDOW_PAIRS, WINDOW_BYTES * batch_costs(loaded).scale // bytes_per_pair))


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
    max_batch_tokens: int | None,
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
        asked = Asked([side.token_ids for side in sides], columns, Read(spec.site, spec.layers), max_batch_tokens)
        reads = buffer[: len(sides)]
        done = 0
        for parts in _one_ahead(in_lanes(lambda read: read(), plan_window(loaded, asked, stats), loaded), loaded):
            before = done
            for owners, wait in parts:
                part = wait()
                _refuse_non_finite(part, [window[owner // 2].id for owner in owners], spec)
                reads[torch.tensor(owners)] = part
                done += len(owners)
            if on_progress is not None and done // 2 > before // 2:
                on_progress(first + done // 2, total if total is not None else first + len(window))
        yield CapturedPairs(first, reads[0::2], reads[1::2])
        first += len(window)
        stats.pairs = first


def _one_ahead(items: Iterator[T], loaded: LoadedModel) -> Iterator[T]:
    """On a GPU each item once the next is there, so that the device has work while this side takes in what it did."""
    if loaded.device.type == "cpu":
        yield from items
        return
    waiting: list[T] = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting


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
