"""Resuming: a forward pass from the middle of the model on. Whatever several runs share is computed once: keys and values of the
prompt, and the residual stream below the layer where the runs part.

The model itself is never changed. A run goes through a twin: new objects for the model, its decoder and its list of blocks, which
share every parameter with the original and have stand-ins where blocks need not run. Masks, positions, the final norm and the head
are the model's own code, so that this holds for every architecture.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from steernode.engine.access.encoding import pad_left
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import residual_stream
from steernode.errors import EngineError


class _Proxy(nn.Module):
    """In the place of a block, for code that asks the block about itself: its attention type, its layer index."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        # Past nn.Module, which would register the block as a child.
        self.__dict__["_block"] = block

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_block"], name)


class _Recorder(_Proxy):
    """Runs its block and keeps what it returned."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        returned = self.__dict__["_block"](*args, **kwargs)
        # A copy, because some blocks add to their input in place.
        self.__dict__["returned"] = _in_form(returned, residual_stream(returned).clone())
        return returned


class _Skipped(_Proxy):
    """Runs nothing. Returns `returned`; without it, what came in, because a block above will be a stand-in too."""

    def __init__(self, block: nn.Module, form: Any, returned: Any = None) -> None:
        super().__init__(block)
        self.__dict__["_form"], self.__dict__["_returned"] = form, returned

    def forward(self, hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Any:
        returned = self.__dict__["_returned"]
        return _in_form(self.__dict__["_form"], hidden_states) if returned is None else returned


@dataclass(frozen=True, eq=False)
class Recording:
    """A twin of a model that keeps what the wanted blocks return in each pass through `twin`."""

    twin: LoadedModel
    recorders: Mapping[int, _Recorder]

    def returned(self, layer: int, rows: Tensor | None = None) -> Any:
        """What block `layer` returned last, in the block's own form: fresh memory, with these rows or all."""
        returned = self.recorders[layer].__dict__["returned"]
        stream = residual_stream(returned)
        return _in_form(returned, stream.clone() if rows is None else stream.index_select(0, rows.to(stream.device)))


def record_blocks(loaded: LoadedModel, layers: Sequence[int]) -> Recording:
    """Raises: EngineError RESUME_UNSUPPORTED if the blocks are not in one list."""
    recorders = {layer: _Recorder(loaded.blocks[layer]) for layer in layers}
    return Recording(_twin(loaded, [recorders.get(layer, block) for layer, block in enumerate(loaded.blocks)]), recorders)


def resume_after(loaded: LoadedModel, layer: int, returned: Any) -> LoadedModel:
    """A twin in which block `layer` returns `returned`, the ones below it do nothing and those above run as ever.

    Hooks on the sites `resid_post` of `layer` and `resid_pre` of the next one see `returned`, and may change it in place; below,
    there is nothing to see.
    """
    blocks = list(loaded.blocks)
    for below in range(layer):
        blocks[below] = _Skipped(blocks[below], returned)
    blocks[layer] = _Skipped(blocks[layer], returned, returned)
    return _twin(loaded, blocks)


def is_resumable(loaded: LoadedModel) -> bool:
    """Whether the model can be run from the middle: its blocks are in one list, its code is its class's, its cache holds keys."""
    try:
        path = _path_to_blocks(loaded)
    except EngineError:
        return False
    if all(module is not loaded.decoder for _, module in path):
        return False
    layers = DynamicCache(config=loaded.model.config).layers
    # A forward put on the object itself, as accelerate does, is bound to the original and would run its blocks.
    return all("forward" not in vars(module) for _, module in path) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers
    )


@dataclass(frozen=True, eq=False)
class PromptCache:
    """The keys and values of prompts at every layer, without their last token, whose pass is where runs may part."""

    real: Tensor
    cache: Any

    def lend(self, rows: Tensor) -> Any:
        """A cache for one pass in which row i continues prompt `rows[i]`. Gathered layer by layer as they run; never written to."""
        lent = copy.copy(self.cache)
        lent.layers = [_lend_layer(layer, rows.to(self.real.device)) for layer in self.cache.layers]
        return lent


@torch.inference_mode()
def read_prompts(loaded: LoadedModel, prompts: Sequence[Sequence[int]]) -> PromptCache:
    """One pass over the prompts, each of at least two tokens; `real` (prompts, columns) is false where a row is padded on the left."""
    padded = pad_left([prompt[:-1] for prompt in prompts], loaded)
    cache = DynamicCache(config=loaded.model.config)
    real = padded.attention_mask.bool()
    mask = None if bool(real.all()) else padded.attention_mask
    loaded.decoder(input_ids=padded.token_ids, attention_mask=mask, position_ids=padded.position_ids, past_key_values=cache, use_cache=True)
    return PromptCache(real, cache)


def _lend_layer(layer: Any, rows: Tensor) -> Any:
    lent, here = copy.copy(layer), rows.to(layer.keys.device)

    def continue_rows(key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        return torch.cat([layer.keys[here], key_states], dim=-2), torch.cat([layer.values[here], value_states], dim=-2)

    lent.update = continue_rows
    return lent


def _in_form(form: Any, stream: Tensor) -> Any:
    """The stream as the block returns it: alone, or first of a tuple."""
    return (stream, *form[1:]) if isinstance(form, tuple) else stream


def _path_to_blocks(loaded: LoadedModel) -> list[tuple[str, nn.Module]]:
    """The modules from the model down to the list of blocks, each with its name in the one before."""
    for name, module in loaded.model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == loaded.n_layers and all(map(_is_same, module, loaded.blocks)):
            path: list[tuple[str, nn.Module]] = [("", loaded.model)]
            for part in name.split("."):
                path.append((part, path[-1][1].get_submodule(part)))
            return path
    raise EngineError(
        "RESUME_UNSUPPORTED", f"{type(loaded.model).__name__} does not keep its blocks in one list; it can only be run from the start"
    )


def _is_same(one: nn.Module, other: nn.Module) -> bool:
    return one is other


def _twin(loaded: LoadedModel, blocks: Sequence[nn.Module]) -> LoadedModel:
    path = _path_to_blocks(loaded)
    child: nn.Module = nn.ModuleList(blocks)
    twins = {id(path[-1][1]): child}
    for (name, _), (_, parent) in zip(reversed(path), list(reversed(path))[1:], strict=False):
        twin = _shallow_copy(parent)
        twin._modules[name] = child
        twins[id(parent)] = child = twin
    return replace(loaded, model=child, decoder=twins[id(loaded.decoder)], blocks=tuple(blocks))


def _shallow_copy(module: nn.Module) -> nn.Module:
    """The same parameters, buffers and children, in containers of its own; hooks stay with the original."""
    twin: nn.Module = object.__new__(type(module))
    for name, value in vars(module).items():
        if name == "_modules":
            value = dict(value)
        elif isinstance(value, OrderedDict) and "hooks" in name:
            value = OrderedDict()
        twin.__dict__[name] = value
    return twin
