"""Sites: where in a layer the residual stream is read or changed, and the one function that hooks them.

`resid_pre` is what a block is given and `resid_post` what it returns; `embedding` is what the first block is given. `attn_out`
and `mlp_out` are what a block adds to the stream, and `resid_mid` is the stream between the two sums:

    resid_mid = resid_pre + attn_out,  resid_post = resid_mid + mlp_out      in a sequential block
    resid_post = resid_pre + attn_out + mlp_out                              in a parallel block, which has no resid_mid

All six are in the same unit, that of the stream: after the post norms of Gemma and OLMo, after Granite's residual multiplier.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from steernode.canonical import parse_layer
from steernode.engine.access.architectures import find_module
from steernode.errors import EngineError
from steernode.files.blocks import Place
from steernode.words import SITES

if TYPE_CHECKING:
    from steernode.engine.access.models import LoadedModel

Visit = Callable[[Tensor], None]
Arguments = tuple[Any, ...]
Keywords = dict[str, Any]
# torch numbers hooks from a plain counter: two threads that register at once could get one number, and one hook would be lost.
_REGISTERING = threading.Lock()


def check_site(site: str) -> None:
    """Raises: EngineError SITE_UNKNOWN."""
    if site not in SITES:
        raise EngineError("SITE_UNKNOWN", f"site {site!r} is not known; known are {', '.join(SITES)}", site)


def check_layer_site(loaded: LoadedModel, layer: int, site: str) -> None:
    """Whether this model has the site at this layer.

    Raises: LayerError LAYER_RANGE; EngineError SITE_UNKNOWN, SITE_LAYER, SITE_ABSENT.
    """
    parse_layer(layer, loaded.n_layers)
    check_site(site)
    if site == "embedding" and layer != 0:
        raise EngineError("SITE_LAYER", f"site 'embedding' lies before layer 0 and belongs to no other; got layer {layer}", str(layer))
    sites = loaded.architecture.layers[layer]
    if site in sites.absent:
        why = "runs attention and MLP in parallel here, so that nothing lies between them" if sites.is_parallel else f"names no {site} here"
        present = [each for each in SITES if each not in sites.absent and each != "embedding"]
        raise EngineError("SITE_ABSENT", f"{loaded.manifest.architecture} {why}; use {', '.join(present[:-1])} or {present[-1]}", site)


def visit_site(loaded: LoadedModel, layer: int, site: str, visit: Visit) -> RemovableHandle:
    """Calls `visit` with the tensor at the site (rows, columns, d_model) whenever the layer runs; it may change it in place.

    A change in place reaches the residual stream. What `visit` wants to keep it must copy, because later parts of the pass
    may change the tensor too. Passes that other threads make through the same block are theirs: `visit` is called in the
    thread that hooked it.

    Raises: as `check_layer_site`.
    """
    check_layer_site(loaded, layer, site)
    block, sites = loaded.blocks[layer], loaded.architecture.layers[layer]
    visit = on_device(visit, loaded.device)
    if site in ("resid_pre", "embedding"):
        return hook_input(block, visit)
    if site == "resid_post":
        return hook_output(block, visit)
    place: Place = getattr(sites, site)
    if site != "resid_mid" and sites.residual_multiplier != 1.0:
        visit = _in_stream_units(visit, sites.residual_multiplier)
    return _hook_place(block, place, visit)


def residual_stream(output: Any, n_dimensions: int = 3) -> Tensor:
    """The residual stream in what a block returns: a tensor from transformers 5 on, the first of a tuple before.

    Raises: EngineError BLOCK_OUTPUT if it is neither.
    """
    stream = output[0] if isinstance(output, tuple) else output
    if not isinstance(stream, Tensor) or stream.ndim not in (3, n_dimensions):
        raise EngineError(
            "BLOCK_OUTPUT", f"a decoder block returned {type(output).__name__}; want (rows, columns, d_model), alone or first of a tuple"
        )
    return stream


class _Handles(RemovableHandle):
    """Several hooks that serve one site, removed as one."""

    def __init__(self, *handles: RemovableHandle) -> None:
        super().__init__(OrderedDict())
        self._handles = handles

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def _hook_place(block: nn.Module, place: Place, visit: Visit) -> RemovableHandle:
    module = find_module(block, place.module)
    hook = hook_input if place.is_input else hook_output
    if not place.is_flat:
        return hook(module, visit)
    shape: list[int] = []

    def remember(stream: Tensor) -> None:
        shape[:] = stream.shape

    # A view, so that it is an error and not a copy if the flat tensor ever came in pieces.
    handles = hook_input(block, remember), hook(module, lambda flat: visit(flat.view(shape)), 2)
    with _REGISTERING:
        return _Handles(*handles)


def hook_input(module: nn.Module, visit: Visit, n_dimensions: int = 3) -> RemovableHandle:
    def before(args: Arguments, kwargs: Keywords) -> None:
        visit(residual_stream(args[0] if args else kwargs.get("hidden_states"), n_dimensions))

    return hook_before(module, before)


def hook_output(module: nn.Module, visit: Visit, n_dimensions: int = 3) -> RemovableHandle:
    def after(output: Any) -> None:
        visit(residual_stream(output, n_dimensions))

    return hook_after(module, after)


def hook_before(module: nn.Module, before: Callable[[Arguments, Keywords], tuple[Arguments, Keywords] | None]) -> RemovableHandle:
    """Calls `before` with what the module is called with in this thread; what it returns, if not None, is what the module gets instead."""
    owner = threading.get_ident()

    # torch notes that a hook takes keywords after the hook is in place, and forgets it before a pass under way in another thread has
    # called it: such a pass calls it without them.
    def hook(_module: nn.Module, args: Arguments, kwargs: Keywords | None = None) -> tuple[Arguments, Keywords] | None:
        return before(args, kwargs or {}) if threading.get_ident() == owner else None

    with _REGISTERING:
        return module.register_forward_pre_hook(hook, with_kwargs=True)


def hook_after(module: nn.Module, after: Callable[[Any], Any], *, is_innermost: bool = False) -> RemovableHandle:
    """Calls `after` with what the module returns in this thread; what it returns, if not None, takes its place."""
    owner = threading.get_ident()

    def hook(_module: nn.Module, _args: Arguments, output: Any) -> Any:
        return after(output) if threading.get_ident() == owner else None

    with _REGISTERING:
        return module.register_forward_hook(hook, prepend=is_innermost)


def on_device(visit: Visit, device: torch.device) -> Visit:
    """Shows `visit` what is on another device as if it were on this one, and carries its changes back."""

    def brought(stream: Tensor) -> None:
        if stream.device == device:
            visit(stream)
            return
        here = stream.to(device)
        visit(here)
        stream.copy_(here)

    return brought


def _in_stream_units(visit: Visit, multiplier: float) -> Visit:
    """Shows `visit` a contribution as the block will add it, and carries its changes back through the multiplier."""

    def scaled(output: Tensor) -> None:
        added = output * multiplier
        untouched = added.clone()
        visit(added)
        # What was left alone keeps its bits: dividing a product does not always give back the factor.
        output.copy_(torch.where(added == untouched, output, added / multiplier))

    return scaled
