"""Sparing: the MLPs of a pass, most of its work, are not run for tokens that nobody reads, such as padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from steernode.engine.access.sending import send
from steernode.engine.access.sites import Arguments, Keywords, hook_after, hook_before

# Taking tokens out and putting them back costs as much as the MLP of a small model does for some tokens.
_LEAST_SAVED_SHARE, _LEAST_SAVED_TOKENS = 1 / 16, 16


@contextmanager
def run_mlps_at(blocks: Sequence[nn.Module], wanted: Tensor) -> Iterator[None]:
    """While the block lasts, the MLPs of these blocks see only the tokens where `wanted` (rows, columns) is true. If that lies on the CPU,
    the model's device is not waited for.

    An MLP works on every token alone, so those tokens keep their values; to the others it adds zeros. Passes of another shape
    or thread run as ever, and so do blocks that keep their MLP elsewhere than in `mlp`, give it more than the stream, or are
    watched inside it.
    """
    places = wanted.flatten().nonzero()[:, 0]
    saved = wanted.numel() - len(places)
    with ExitStack() as hooks:
        if saved >= max(_LEAST_SAVED_TOKENS, _LEAST_SAVED_SHARE * wanted.numel()):
            for block in blocks:
                for handle in _run_at(getattr(block, "mlp", None), wanted.shape, places):
                    hooks.callback(handle.remove)
        yield


def _run_at(mlp: Any, shape: torch.Size, places: Tensor) -> list[RemovableHandle]:
    if not isinstance(mlp, nn.Module):
        return []
    is_inside = False

    def take(args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords] | None:
        nonlocal is_inside
        is_inside = len(args) == 1 and not kwargs and args[0].shape[:-1] == shape and not _is_watched(mlp)
        return ((args[0].flatten(0, 1).index_select(0, send(places, args[0].device))[None],), {}) if is_inside else None

    def put_back(output: Any) -> Any:
        if not is_inside:
            return None
        some = output[0] if isinstance(output, tuple) else output
        whole = some.new_zeros(*shape, some.shape[-1])
        whole.view(-1, some.shape[-1]).index_copy_(0, send(places, some.device), some.view(-1, some.shape[-1]))
        return (whole, *output[1:]) if isinstance(output, tuple) else whole

    # Innermost, so that whoever else hooks the MLP sees whole batches.
    return [hook_before(mlp, take), hook_after(mlp, put_back, is_innermost=True)]


def _is_watched(mlp: nn.Module) -> bool:
    """Whether somebody hooked a part of it, who would be shown fewer tokens than there are."""
    return any(part._forward_hooks or part._forward_pre_hooks for part in mlp.modules() if part is not mlp)
