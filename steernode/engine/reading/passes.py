"""Passes: one batch of token rows through the decoder as far as the deepest wanted layer, and what is read on the way.

A batch is either plain, padded rows under causal attention, or packed: blocks of a token trie below one shared root.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from steernode.engine.access.costs import batch_costs
from steernode.engine.access.encoding import pad_right
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sending import send
from steernode.engine.access.sites import visit_site
from steernode.engine.access.sparing import run_mlps_at
from steernode.engine.reading.packing import PackedBlock, PassCost

# How much slower attention is under a dense mask than its count of operations beside the big matrix products of a block.
# A careful guess: between 1.5 and 3 the reference model took the same time.
_MASKED_PENALTY = 3.0


@dataclass(frozen=True)
class Read:
    """Where to read: site and layers, ascending."""

    site: str
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Columns:
    """One thing to read: the mean over these columns of a row of the batch."""

    row: int
    columns: Sequence[int]


class _DeepestLayerReached(Exception):
    """Leaves a forward pass once the deepest wanted layer was read; what lies above it would be wasted work."""


def pass_cost(loaded: LoadedModel) -> PassCost:
    """Operations per token and layer: two per weight of a block, and four per attention channel and token seen."""
    config: Any = loaded.decoder.config
    weights = sum(parameter.numel() for parameter in loaded.blocks[-1].parameters())
    heads = getattr(config, "num_attention_heads", 0) or 0
    channels = heads * (getattr(config, "head_dim", None) or 0) or loaded.d_model
    token, seen = 2.0 * weights, 4.0 * channels
    return PassCost(token, seen, masked=seen * _MASKED_PENALTY, batch=token * batch_costs(loaded).overhead_tokens)


def read_plain(loaded: LoadedModel, rows: Sequence[Sequence[int]], wanted: Sequence[Columns], read: Read) -> Tensor:
    """Reads padded rows. Returns: (wanted, layers, d_model) float32 on the model's device."""
    return _run(loaded, {"input_ids": pad_right(rows, loaded), "use_cache": False}, _Picks.of(wanted, loaded.device), read)


def read_packed(
    loaded: LoadedModel,
    root: Sequence[int],
    blocks: Sequence[PackedBlock],
    wanted: Sequence[Columns],
    read: Read,
    window: int | None,
    cache: Cache | None = None,
) -> Tensor:
    """Reads blocks below a root; a row of the batch is a block and a column one of its nodes. Shapes as `read_plain`.

    `window`: how many tokens, itself included, a token sees in layers of sliding attention; None if there are none.
    `cache` is the root's, of `read_roots`; without it, the root is computed here.
    """
    columns = max(len(block.token_ids) for block in blocks)
    depths = torch.zeros(len(blocks), columns, dtype=torch.long)
    # Padding sees itself, because a token that sees nothing is not a number, and nothing sees it.
    visible = torch.eye(columns, dtype=torch.bool).repeat(len(blocks), 1, 1)
    for row, block in enumerate(blocks):
        nodes = len(block.token_ids)
        depths[row, :nodes] = torch.from_numpy(block.depths())
        visible[row, :nodes, :nodes] = torch.from_numpy(block.visible())
    positions = depths + len(root)
    visible = torch.cat([torch.ones(len(blocks), columns, len(root), dtype=torch.bool), visible], dim=2)
    seen_positions = torch.cat([torch.arange(len(root)).expand(len(blocks), -1), positions], dim=1)
    masks = {"full_attention": visible}
    if window is not None:
        masks["sliding_attention"] = visible & (positions[:, :, None] - seen_positions[:, None, :] < window)
    inputs: dict[str, Any] = {
        "input_ids": pad_right([block.token_ids for block in blocks], loaded),
        "position_ids": send(positions, loaded.device),
        "attention_mask": _shape_masks(loaded, masks),
        "use_cache": False,
    }
    if root:
        inputs |= {"past_key_values": read_roots(loaded, [root], read)[0] if cache is None else cache, "use_cache": True}
    return _run(loaded, inputs, _Picks.of(wanted, loaded.device), read)


@dataclass(frozen=True, eq=False)
class _Picks:
    """The wanted columns as flat indices, so that one gather reads them all. `places` are the same (2, wanted) on the CPU."""

    rows: Tensor
    columns: Tensor
    owners: Tensor | None
    counts: Tensor
    places: Tensor

    @classmethod
    def of(cls, wanted: Sequence[Columns], device: torch.device) -> _Picks:
        counts = torch.tensor([len(item.columns) for item in wanted])
        rows = torch.tensor([item.row for item in wanted]).repeat_interleave(counts)
        columns = torch.tensor([column for item in wanted for column in item.columns])
        owners = None if bool((counts == 1).all()) else send(torch.arange(len(wanted)).repeat_interleave(counts), device)
        return cls(send(rows, device), send(columns, device), owners, send(counts, device), torch.stack([rows, columns]))

    def among(self, shape: torch.Size) -> Tensor:
        """(rows, columns) booleans on the CPU: which of the batch's tokens are read."""
        wanted = torch.zeros(shape, dtype=torch.bool)
        wanted[self.places[0], self.places[1]] = True
        return wanted

    def read(self, stream: Tensor) -> Tensor:
        picked = stream[self.rows, self.columns].float()
        if self.owners is None:
            return picked
        sums = picked.new_zeros(len(self.counts), picked.shape[1]).index_add_(0, self.owners, picked)
        return sums / self.counts[:, None]


@torch.inference_mode()
def _run(loaded: LoadedModel, inputs: dict[str, Any], picks: _Picks, read: Read) -> Tensor:
    reads: dict[int, Tensor] = {}

    def reader(layer: int) -> Callable[[Tensor], None]:
        def visit(stream: Tensor) -> None:
            reads[layer] = picks.read(stream)
            if layer == read.layers[-1]:
                raise _DeepestLayerReached

        return visit

    with ExitStack() as hooks:
        if read.site in ("resid_post", "mlp_out"):
            hooks.enter_context(run_mlps_at([loaded.blocks[read.layers[-1]]], picks.among(inputs["input_ids"].shape)))
        for layer in read.layers:
            hooks.callback(visit_site(loaded, layer, read.site, reader(layer)).remove)
        with suppress(_DeepestLayerReached):
            loaded.decoder(**inputs)
    return torch.stack([reads[layer] for layer in read.layers], dim=1)


class _RootLayer(DynamicLayer):
    """Keys and values of a root (1, heads, columns, head size) that every row of a batch sees. What comes after is not kept."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers says no type of it
        self.lazy_initialization(keys, values)
        self.keys, self.values = self._root = (keys, values)

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        rows = len(key_states)
        keys, values = (root.expand(rows, -1, -1, -1) for root in self._root)
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)


@torch.inference_mode()
def read_roots(loaded: LoadedModel, roots: Sequence[Sequence[int]], read: Read) -> list[Cache]:
    """The keys and values of roots, from one pass as far as they are needed. Nothing changes them, so passes may share them."""
    # A cache without a config keeps every column, also in layers of sliding attention: our masks hide what is too far.
    cache: Any = DynamicCache()
    inputs = {"input_ids": pad_right(roots, loaded), "past_key_values": cache, "use_cache": True}
    _run(loaded, inputs, _Picks.of([Columns(0, (0,))], loaded.device), Read(read.site, read.layers[-1:]))
    return [
        Cache(
            layers=[
                _RootLayer(layer.keys[row : row + 1, :, : len(root)], layer.values[row : row + 1, :, : len(root)]) for layer in cache.layers
            ]
        )
        for row, root in enumerate(roots)
    ]


def _shape_masks(loaded: LoadedModel, masks: dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
    """As attention takes them: (rows, 1, columns, seen), additive, because SDPA would turn booleans into that in every layer."""
    config: Any = loaded.decoder.config
    shaped = {}
    for kind, visible in masks.items():
        hidden = send(~visible[:, None], loaded.device)
        mask = torch.zeros(hidden.shape, dtype=loaded.dtype, device=loaded.device)
        shaped[kind] = mask.masked_fill_(hidden, torch.finfo(loaded.dtype).min)
    if len(shaped) == 1:
        return shaped["full_attention"]
    # A model whose layers are all of one kind takes the mask itself.
    return shaped if getattr(config, "layer_types", None) else shaped["sliding_attention"]
