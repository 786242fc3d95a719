"""Which tokens are steered. Columns are absolute: counted from the start of the padded sequence, never from a cached chunk."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from steernode.engine.access.encoding import EncodedConversation
from steernode.errors import EngineError
from steernode.words import SCOPES


@dataclass(frozen=True, eq=False)
class PromptLayout:
    """Where each row's prompt lies in a padded batch. What comes after a row's last prompt token is that row's reply.

    `real` and `assistant` are (rows, columns) booleans over the prompts' columns: where there is a token of the prompt and no
    padding, and where the assistant wrote it. `ends` (rows,) is the column of each row's last prompt token.
    """

    real: Tensor
    assistant: Tensor
    ends: Tensor

    @classmethod
    def of(cls, prompts: Sequence[EncodedConversation]) -> PromptLayout:
        """Prompts padded on the left (`pad_left`), as they are for generating: all end in the same column."""
        longest = max(len(prompt.token_ids) for prompt in prompts)
        return cls._place(prompts, [longest - len(prompt.token_ids) for prompt in prompts])

    @classmethod
    def right_padded(cls, prompts: Sequence[EncodedConversation]) -> PromptLayout:
        """Prompts that start in column 0 (`pad_right`), each followed at once by its reply, if it has one in the same pass."""
        return cls._place(prompts, [0 for _ in prompts])

    @classmethod
    def _place(cls, prompts: Sequence[EncodedConversation], starts: Sequence[int]) -> PromptLayout:
        lengths = torch.tensor([len(prompt.token_ids) for prompt in prompts])
        first = torch.tensor(starts)
        ends = first + lengths - 1
        columns = torch.arange(int(ends.max()) + 1)
        real = (columns >= first[:, None]) & (columns <= ends[:, None])
        assistant = torch.zeros_like(real)
        for row, prompt in enumerate(prompts):
            if any(prompt.assistant_mask):
                assistant[row, starts[row] : starts[row] + len(prompt.assistant_mask)] = torch.tensor(prompt.assistant_mask)
        return cls(real, assistant, ends)

    @property
    def rows(self) -> int:
        return self.real.shape[0]

    @property
    def columns(self) -> int:
        return self.real.shape[1]

    @property
    def ends_together(self) -> bool:
        return bool((self.ends == self.columns - 1).all())

    def select_rows(self, rows: Tensor) -> PromptLayout:
        """The rows at these indices, in their order; an index may repeat."""
        return PromptLayout(self.real[rows], self.assistant[rows], self.ends[rows])


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
    check_scope(scope)
    # In a right-padded batch, a shorter row's reply begins while longer prompts still go on.
    generated = torch.arange(layout.columns)[None, :] >= layout.ends[:, None]
    if scope == "generated":
        covered = generated
    elif scope == "assistant":
        covered = layout.assistant | generated
    else:
        covered = layout.real if scope == "prompt" else layout.real | generated
    return ScopeMask(covered, covers_reply(scope))


def covers_reply(scope: str) -> bool:
    """Whether the scope goes on after the prompt's last token."""
    return scope != "prompt"


def check_scope(scope: str) -> None:
    """Raises: EngineError SCOPE_UNKNOWN."""
    if scope not in SCOPES:
        raise EngineError("SCOPE_UNKNOWN", f"token scope {scope!r} is not known; known are {', '.join(SCOPES)}", scope)


@cache
def _find_cache_argument(decoder_class: Any) -> int:
    """Where a decoder takes its cache when it is not named. Remembered, because reading a signature takes as long as steering does."""
    names = list(inspect.signature(decoder_class.forward).parameters)[1:]
    return names.index("past_key_values") if "past_key_values" in names else len(names)


class ChunkTracker:
    """The columns of the chunk that the decoder is working on, as the key-value cache itself counts them.

    One per generation, so that two generations cannot confuse each other; read from the cache at every pass, so that cached
    and uncached passes agree and no counter can drift.
    """

    def __init__(self, decoder: nn.Module) -> None:
        self.start = 0
        decoder_class: Any = type(decoder)
        self._cache_place = _find_cache_argument(decoder_class)

    def enter_decoder(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        key_values = kwargs.get("past_key_values")
        if key_values is None and len(args) > self._cache_place:
            key_values = args[self._cache_place]
        self.start = 0 if key_values is None else int(key_values.get_seq_length())
