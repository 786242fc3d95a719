"""A key-value cache with room for the whole reply, so that a step writes its token instead of copying all the ones before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer, as views into buffers of `capacity` columns that are filled from the left."""

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers says no type of it
        self._capacity = capacity
        self._length = 0

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        """The chunk's keys and values (rows, heads, columns, head size) go in; all so far come out."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._key_room = self._make_room(key_states)
            self._value_room = self._make_room(value_states)
        start, self._length = self._length, self._length + key_states.shape[2]
        self._key_room[:, :, start : self._length] = key_states
        self._value_room[:, :, start : self._length] = value_states
        self.keys, self.values = self._key_room[:, :, : self._length], self._value_room[:, :, : self._length]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        rows = beam_idx.to(self._key_room.device)
        self._key_room, self._value_room = self._key_room[rows], self._value_room[rows]
        self.keys, self.values = self._key_room[:, :, : self._length], self._value_room[:, :, : self._length]

    def _make_room(self, states: Tensor) -> Tensor:
        rows, heads, _, size = states.shape
        return torch.empty(rows, heads, self._capacity, size, dtype=states.dtype, device=states.device)


def new_cache(model: Any, capacity: int) -> Any:
    """An empty cache for at most `capacity` columns. Layers with a sliding window or a state keep the kind that transformers gives them.

    None for a class that takes no cache but its own: its first pass makes one.
    """
    if not model._supports_default_dynamic_cache():
        return None
    cache = DynamicCache(config=model.config)
    # DynamicCache without known layer types adds them lazily; it is then left as it is.
    cache.layers = [RoomyLayer(capacity) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def select_rows(cache: Any, rows: Tensor) -> None:
    """Row i is from now on what row `rows[i]` was. A row may be taken more than once, or left out."""
    # Only this one of the two reaches the states of linear attention, and only the other one those of a class's own cache.
    if type(cache) is DynamicCache:
        cache.reorder_cache(rows)  # type: ignore[arg-type]  # it says LongTensor, which no tensor is to a type checker
    else:
        cache.batch_select_indices(rows)
