"""Capture: the residual stream of every wanted layer at the read positions, by hooks, in one pass without the LM head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steerkit.canonical import parse_layer
from steerkit.contrast import ContrastPair
from steerkit.engine.encoding import EncodedConversation, encode_dialogue, encode_prompt, pad_right
from steerkit.engine.models import LoadedModel
from steerkit.engine.sites import check_site, visit_site
from steerkit.errors import EngineError

READ_POSITIONS = ("last_prompt_token", "assistant_tokens")
MAX_BATCH_TOKENS = 4096

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CaptureSpec:
    """What to read: which layers at which site, and over which tokens of each conversation."""

    layers: tuple[int, ...]
    site: str = "resid_post"
    read_position: str = "last_prompt_token"


def capture_spec(
    loaded: LoadedModel, *, layers: Sequence[int] | None = None, site: str = "resid_post", read_position: str = "last_prompt_token"
) -> CaptureSpec:
    """All layers unless told otherwise, each checked against the model.

    Raises: LayerError LAYER_RANGE, EngineError SITE_UNKNOWN, READ_POSITION_UNKNOWN.
    """
    check_site(site)
    if read_position not in READ_POSITIONS:
        raise EngineError(
            "READ_POSITION_UNKNOWN", f"read position {read_position!r} is not known; known are {', '.join(READ_POSITIONS)}", read_position
        )
    wanted = range(loaded.n_layers) if layers is None else sorted({parse_layer(layer, loaded.n_layers) for layer in layers})
    if not wanted:
        raise EngineError("LAYERS_EMPTY", "no layers to read; name at least one")
    return CaptureSpec(tuple(wanted), site, read_position)


class _DeepestLayerReached(Exception):
    """Leaves a forward pass once the deepest wanted layer was read; what lies above it would be wasted work."""


@torch.inference_mode()
def read_activations(loaded: LoadedModel, conversations: Sequence[EncodedConversation], spec: CaptureSpec) -> Tensor:
    """One vector per conversation and layer: the state at its last token, or the mean over its assistant tokens.

    Returns: (conversations, layers, d_model) float32, in the order of `spec.layers`. One forward pass of one batch.
    """
    token_ids = pad_right([conversation.token_ids for conversation in conversations], loaded)
    read_stream = _last_token_reader(conversations) if spec.read_position == "last_prompt_token" else _assistant_reader(conversations)
    reads: dict[int, Tensor] = {}

    def reader(layer: int) -> Callable[[Tensor], None]:
        def read(stream: Tensor) -> None:
            reads[layer] = read_stream(stream)
            if layer == spec.layers[-1]:
                raise _DeepestLayerReached

        return read

    handles = [visit_site(loaded, layer, spec.site, reader(layer)) for layer in spec.layers]
    try:
        loaded.decoder(input_ids=token_ids, use_cache=False)
    except _DeepestLayerReached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([reads[layer] for layer in spec.layers], dim=1)


def capture_pairs(
    loaded: LoadedModel,
    pairs: Sequence[ContrastPair],
    spec: CaptureSpec,
    *,
    max_batch_tokens: int = MAX_BATCH_TOKENS,
    on_progress: Progress | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The two sides of pairs, batch by batch: (pairs in the batch, layers, d_model) each, row i of both from one pair.

    Both sides of a pair share a batch, so that no difference between two batches can pass for a difference between sides.
    Batches are filled by token budget in order of length. `on_progress(done, total)` counts pairs.

    Raises: EngineError NON_FINITE naming the pair and the layer, and the codes of encoding.
    """
    encode = encode_dialogue if spec.read_position == "assistant_tokens" else encode_prompt
    encoded = [(encode(loaded, pair.positive), encode(loaded, pair.negative)) for pair in pairs]
    lengths = [max(len(positive.token_ids), len(negative.token_ids)) for positive, negative in encoded]
    done = 0
    for batch in batch_by_length(lengths, max_batch_tokens // 2):
        sides = [encoded[index][0] for index in batch] + [encoded[index][1] for index in batch]
        reads = read_activations(loaded, sides, spec)
        _refuse_non_finite(reads, [pairs[index].id for index in batch], spec)
        done += len(batch)
        yield reads[: len(batch)], reads[len(batch) :]
        if on_progress is not None:
            on_progress(done, len(encoded))


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


def _last_token_reader(conversations: Sequence[EncodedConversation]) -> Callable[[Tensor], Tensor]:
    rows = torch.arange(len(conversations))
    columns = torch.tensor([len(conversation.token_ids) - 1 for conversation in conversations])
    return lambda stream: stream[rows, columns].float()


def _assistant_reader(conversations: Sequence[EncodedConversation]) -> Callable[[Tensor], Tensor]:
    longest = max(len(conversation.token_ids) for conversation in conversations)
    marked = torch.tensor([[*c.assistant_mask, *[False] * (longest - len(c.assistant_mask))] for c in conversations])

    def read(stream: Tensor) -> Tensor:
        mask = marked.to(stream.device)[:, :, None]
        # Other tokens are dropped, not multiplied by zero: zero times infinity is not a number.
        return stream.float().masked_fill(~mask, 0.0).sum(dim=1) / mask.sum(dim=1)

    return read


def _refuse_non_finite(reads: Tensor, pair_ids: Sequence[str], spec: CaptureSpec) -> None:
    finite = torch.isfinite(reads).all(dim=-1)
    if finite.all():
        return
    row, layer = (~finite).nonzero()[0].tolist()
    pair_id = pair_ids[row % len(pair_ids)]
    raise EngineError(
        "NON_FINITE",
        f"pair {pair_id!r} has an activation at layer {spec.layers[layer]} that is not finite; load the model in float32",
        pair_id,
    )
