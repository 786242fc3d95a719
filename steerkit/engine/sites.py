"""Sites: where in a layer the residual stream is read or changed, and the one function that hooks them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from steerkit.engine.models import LoadedModel
from steerkit.errors import EngineError

# `resid_pre` of layer 0 is the embedding output; `resid_post` of layer n is the output of block n.
SITES = ("resid_pre", "resid_post")
_LATER_SITES = ("resid_mid", "attn_out", "mlp_out", "embedding")

Visit = Callable[[Tensor], None]
# torch numbers hooks from a plain counter: two threads that register at once could get one number, and one hook would be lost.
REGISTERING = threading.Lock()


def check_site(site: str) -> None:
    """Raises: EngineError SITE_UNKNOWN."""
    if site in _LATER_SITES:
        raise EngineError("SITE_UNKNOWN", f"site {site!r} is not in this release; it reads and steers {', '.join(SITES)}", site)
    if site not in SITES:
        raise EngineError("SITE_UNKNOWN", f"site {site!r} is not known; known are {', '.join(SITES)}", site)


def visit_site(loaded: LoadedModel, layer: int, site: str, visit: Visit) -> RemovableHandle:
    """Calls `visit` with the residual stream (rows, columns, d_model) whenever the layer runs; it may change it in place.

    In place is safe: a block's output is a fresh sum that only the next block reads, and its input is the previous one's.
    Passes that other threads make through the same block are theirs: `visit` is called in the thread that hooked it.
    """
    check_site(site)
    block, owner = loaded.blocks[layer], threading.get_ident()
    if site == "resid_pre":

        def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if threading.get_ident() == owner:
                visit(args[0] if args else kwargs["hidden_states"])

        with REGISTERING:
            return block.register_forward_pre_hook(before, with_kwargs=True)

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        if threading.get_ident() == owner:
            visit(residual_stream(output))

    with REGISTERING:
        return block.register_forward_hook(after)


def residual_stream(output: Any) -> Tensor:
    """The residual stream in what a block returns: a tensor from transformers 5 on, the first of a tuple before.

    Raises: EngineError BLOCK_OUTPUT if it is neither.
    """
    stream = output[0] if isinstance(output, tuple) else output
    if not isinstance(stream, Tensor) or stream.ndim != 3:
        raise EngineError(
            "BLOCK_OUTPUT", f"a decoder block returned {type(output).__name__}; want (rows, columns, d_model), alone or first of a tuple"
        )
    return stream
