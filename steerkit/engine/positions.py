"""Which tokens are steered. Columns are absolute: counted from the start of the padded sequence, never from a cached chunk."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steerkit.engine.encoding import EncodedConversation
from steerkit.errors import EngineError

SCOPES = ("generated", "prompt", "all", "assistant")


@dataclass(frozen=True, eq=False)
class PromptLayout:
    """Where each row's prompt lies in a left-padded batch: all prompts end in the same column, whose index is `columns - 1`.

    Both masks are (rows, columns) booleans: `real` is true where there is a token and no padding.
    """

    real: Tensor
    assistant: Tensor

    @classmethod
    def of(cls, prompts: Sequence[EncodedConversation]) -> PromptLayout:
        longest = max(len(prompt.token_ids) for prompt in prompts)
        padding = [longest - len(prompt.token_ids) for prompt in prompts]
        real = torch.tensor([[column >= pad for column in range(longest)] for pad in padding])
        assistant = torch.tensor([[*[False] * pad, *prompt.assistant_mask] for pad, prompt in zip(padding, prompts, strict=True)])
        return cls(real, assistant)

    @property
    def rows(self) -> int:
        return self.real.shape[0]

    @property
    def columns(self) -> int:
        return self.real.shape[1]

    def select_rows(self, rows: Tensor) -> PromptLayout:
        return PromptLayout(self.real[rows], self.assistant[rows])


@dataclass(frozen=True, eq=False)
class ScopeMask:
    """A scope on one batch: which prompt columns it covers (rows, columns), and whether it covers what is generated after."""

    prompt: Tensor
    covers_generated: bool

    def chunk(self, start: int, length: int) -> Tensor:
        """(rows, length) booleans for the columns from `start` on."""
        rows, columns = self.prompt.shape
        inside = self.prompt[:, start : start + length]
        after = torch.full((rows, length - inside.shape[1]), self.covers_generated)
        return torch.cat([inside, after], dim=1) if start < columns else after


def mask_scope(scope: str, layout: PromptLayout) -> ScopeMask:
    """`generated` starts at the last prompt token, because that token's state produces the first token of the reply.

    Raises: EngineError SCOPE_UNKNOWN.
    """
    last = torch.zeros_like(layout.real)
    last[:, -1] = True
    if scope == "generated":
        return ScopeMask(last, covers_generated=True)
    if scope == "assistant":
        return ScopeMask(layout.assistant | last, covers_generated=True)
    if scope == "prompt":
        return ScopeMask(layout.real, covers_generated=False)
    if scope == "all":
        return ScopeMask(layout.real, covers_generated=True)
    raise EngineError("SCOPE_UNKNOWN", f"token scope {scope!r} is not known; known are {', '.join(SCOPES)}", scope)


class ChunkTracker:
    """The columns of the chunk that the decoder is working on, as the key-value cache itself counts them.

    One per generation, so that two generations cannot confuse each other; read from the cache at every pass, so that cached
    and uncached passes agree and no counter can drift.
    """

    def __init__(self) -> None:
        self.start = 0
        self._owner = threading.get_ident()

    def enter_decoder(self, _decoder: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Another thread's pass through the same decoder is at a place of its own.
        if threading.get_ident() != self._owner:
            return
        cache = kwargs.get("past_key_values")
        self.start = 0 if cache is None else int(cache.get_seq_length())
