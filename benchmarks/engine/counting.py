"""How many tokens the decoder blocks really saw, counted by hooks, the same way for every library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

from torch import nn


@dataclass
class BlockTokens:
    """`first` counts tokens at block 0, `total` over all blocks: a pass that stops early shows in the second only."""

    first: int = 0
    total: int = 0

    def to_document(self) -> dict[str, int]:
        return {"tokens_at_first_block": self.first, "tokens_over_all_blocks": self.total}


@contextmanager
def count_block_tokens(blocks: Sequence[nn.Module]) -> Iterator[BlockTokens]:
    """Rows times columns of what enters each block, padding included, while the block of code lasts."""
    counted, counting = BlockTokens(), Lock()

    def see(index: int) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            tokens = hidden.shape[0] * hidden.shape[1]
            # Batches may run side by side.
            with counting:
                counted.total += tokens
                if index == 0:
                    counted.first += tokens

        return hook

    handles = [block.register_forward_pre_hook(see(index), with_kwargs=True) for index, block in enumerate(blocks)]
    try:
        yield counted
    finally:
        for handle in handles:
            handle.remove()
