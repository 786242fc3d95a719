"""Key-value caches with room for the whole reply, so that a step writes its token instead of copying all the ones before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer


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


class FixedCache(Cache):
    """Keys and values in buffers that keep their place in memory from one batch to the next, so that a step over them can be replayed.

    First a batch is read, chunk after chunk, as through `RoomyLayer`. From `fix` on a step writes where `column` says, a number on the
    device, and is shown the whole width; what was not written yet is for the mask to hide. Layers with a sliding window keep every
    column too, since a mask hides those as well.
    """

    def __init__(self, layers: int, device: torch.device) -> None:
        self.column = torch.zeros((), dtype=torch.long, device=device)
        self.rows = self.columns = self.tokens = 0
        self.is_fixed = False
        self._fixed_layers = [FixedLayer(self) for _ in range(layers)]
        super().__init__(layers=[*self._fixed_layers])

    def start(self, rows: int, columns: int) -> bool:
        """An empty cache of that shape. Returns whether the buffers are still those of before."""
        self.is_fixed = False
        self.rows, self.columns = rows, columns
        is_kept, self.tokens = rows * columns <= self.tokens, max(self.tokens, rows * columns)
        for layer in self._fixed_layers:
            layer.start(is_kept)
        return is_kept

    def forget(self) -> None:
        """Gives the memory back."""
        self.tokens = 0
        for layer in self._fixed_layers:
            layer.start(keeps_room=False)

    def fix(self) -> None:
        """Steps follow, of all rows. The first is written after what was read; nothing is left of what was there before."""
        self.column.fill_(self._fixed_layers[0].length)
        for layer in self._fixed_layers:
            layer.fix()
        self.is_fixed = True

    def keep_rows(self, rows: Tensor) -> None:
        """Only these rows go on, which are the shape from now on."""
        self.batch_select_indices(rows)
        self.rows = len(rows)


class FixedLayer(CacheLayerMixin):
    """One layer of a `FixedCache`."""

    is_compileable = True
    is_sliding = False
    keys: Any
    values: Any

    def __init__(self, cache: FixedCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers says no type of it
        self._cache = cache
        self._rooms: tuple[Tensor, ...] = ()
        self.length = 0

    def start(self, keeps_room: bool) -> None:
        self.length = 0
        if not keeps_room:
            # Before the new ones are made, so that memory need not hold both.
            self.keys = self.values = None
            self._rooms, self.is_initialized = (), False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self._heads: list[tuple[int, int]] = [(states.shape[1], states.shape[3]) for states in (key_states, value_states)]
        self._rooms = tuple(
            torch.empty(self._cache.tokens * heads * size, dtype=self.dtype, device=self.device) for heads, size in self._heads
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        """As `RoomyLayer` until it is fixed; then one column goes in and the whole width comes out."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self._cache.is_fixed:
            column = self._cache.column[None]
            self.keys.index_copy_(2, column, key_states)
            self.values.index_copy_(2, column, value_states)
            return self.keys, self.values
        start, self.length = self.length, self.length + key_states.shape[2]
        self._show(len(key_states), self.length)
        self.keys[:, :, start:] = key_states
        self.values[:, :, start:] = value_states
        return self.keys, self.values

    def fix(self) -> None:
        """Zeros, where nothing was read: what is hidden is multiplied by zero, and what an overflow left is not zero then."""
        filled = len(self.keys)
        self._show(self._cache.rows, self._cache.columns)
        for states in (self.keys, self.values):
            states[:, :, self.length :] = 0
            states[filled:, :, : self.length] = 0

    def batch_select_indices(self, indices: Tensor) -> None:
        keys, values = self.keys[indices], self.values[indices]
        self._show(len(indices), self.keys.shape[2])
        self.keys.copy_(keys)
        self.values.copy_(values)

    def get_seq_length(self) -> Any:
        """Once fixed it is a number on the device, as in the library's static layers, since what is replayed asks this side nothing."""
        return self._cache.column if self._cache.is_fixed else self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return (self._cache.columns if self._cache.is_fixed else self.length + query_length), 0

    def get_max_length(self) -> int:
        return self._cache.columns

    def _show(self, rows: int, columns: int) -> None:
        """The first rows and columns. Fewer rows lie where they lay among more."""
        self.keys, self.values = (
            room[: rows * heads * self._cache.columns * size].view(rows, heads, self._cache.columns, size)[:, :, :columns]
            for room, (heads, size) in zip(self._rooms, self._heads, strict=True)
        )


def new_fixed_cache(model: Any, device: torch.device) -> FixedCache | None:
    """None for a model that remembers something else than keys and values of each layer, such as a recurrent state."""
    if not model._supports_default_dynamic_cache():
        return None
    layers = DynamicCache(config=model.config).layers
    if not layers or any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return None
    return FixedCache(len(layers), device)
