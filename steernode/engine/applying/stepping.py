"""Stepping: the passes of one batch that is written, from its prompts to a token for each row per step, over a cache that grows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from steernode.engine.access.cache import new_cache, select_rows
from steernode.engine.access.encoding import pad_left
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sparing import run_mlps_at
from steernode.engine.applying.components import Component
from steernode.engine.applying.positions import PromptLayout
from steernode.engine.applying.sampling import Sampler
from steernode.engine.applying.steer import AppliedSteering, steered
from steernode.records.decoding import Sampling

# Selecting rows copies the cache, so it is done when it buys at least this share of the batch.
_COMPACT_BELOW = 0.75


class Stepper:
    """The state of one batch on the model's device. It is steered until its `with` block ends."""

    def __init__(
        self, loaded: LoadedModel, rows: Sequence[Sequence[int]], steps: int, sampling: Sequence[Sampling] | None, before: int
    ) -> None:
        """`rows` are what was said so far, and each is answered by at most `steps` tokens; `before` tokens of its reply are in it."""
        padded = pad_left(rows, loaded)
        self._loaded, self._before, self._step = loaded, before, 0
        self._chunk, self._positions = padded.token_ids, padded.position_ids
        # As wide as it will ever be; a step takes the columns there are by then.
        self._mask = torch.nn.functional.pad(padded.attention_mask, (0, steps), value=1)
        self._prompt_columns = self._chunk.shape[1]
        # Without padding there is nothing to mask, and attention may take its fast path.
        self._is_padded = not bool(padded.attention_mask.all())
        self._sampler = Sampler(sampling, self._chunk.device) if sampling else None
        self._cache = self._make_cache()
        self._hooks = ExitStack()
        self._steering: AppliedSteering | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hooks.close()

    def steer(self, components: Sequence[Component], layout: PromptLayout, row_coefficients: Tensor | None) -> None:
        """Raises: as `steered`."""
        self._steering = self._hooks.enter_context(steered(self._loaded, components, layout, row_coefficients=row_coefficients))

    def read_shared(self, source: Sequence[int]) -> None:
        """Reads rows that repeat once, up to but not including their last token, and copies the cache to the others: row i is what
        the first row of its number `source[i]` is. Right only if nothing steers before the last token."""
        if self._prompt_columns < 2:
            return
        rows = torch.tensor([source.index(index) for index in range(max(source) + 1)], device=self._chunk.device)
        columns = self._prompt_columns - 1
        self._forward(self._chunk[rows, :-1], self._positions[rows, :-1], self._mask[rows, :columns])
        select_rows(self._cache, torch.tensor(source, device=self._chunk.device))
        self._chunk, self._positions = self._chunk[:, -1:], self._positions[:, -1:]

    def step(self) -> list[int]:
        """The next token of each row; first of what was said, then of what was chosen before."""
        chosen = self._choose(self._forward(self._chunk, self._positions, self._mask[:, : self._prompt_columns + self._step]))
        self._step += 1
        self._chunk, self._positions = chosen[:, None], self._positions[:, -1:] + 1
        tokens: list[int] = chosen.tolist()
        return tokens

    def drops(self, kept: int, rows: int) -> bool:
        """Whether it is worth it to go on with fewer rows."""
        return kept < _COMPACT_BELOW * rows

    def select_rows(self, kept: Sequence[int]) -> None:
        rows = torch.tensor(kept, device=self._chunk.device)
        self._chunk, self._positions, self._mask = self._chunk[rows], self._positions[rows], self._mask[rows]
        select_rows(self._cache, rows)
        if self._sampler is not None:
            self._sampler = self._sampler.select_rows(rows)
        if self._steering is not None:
            self._steering.select_rows(rows.cpu())

    def _make_cache(self) -> Any:
        return new_cache(self._loaded.model, self._mask.shape[1])

    def _choose(self, logits: Tensor) -> Tensor:
        return self._sampler.choose(logits, self._before + self._step) if self._sampler else logits.argmax(dim=-1)

    def _forward(self, token_ids: Tensor, position_ids: Tensor, mask: Tensor) -> Tensor:
        """Logits (rows, vocabulary) after the chunk's last column."""
        # A chunk of several columns is the prompts', and its mask as wide as it is.
        may_pad = self._is_padded and token_ids.shape[1] > 1
        with run_mlps_at(self._loaded.blocks, mask.bool()) if may_pad else nullcontext():
            output = self._loaded.model(
                input_ids=token_ids,
                attention_mask=mask if self._is_padded else None,
                position_ids=position_ids,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache = output.past_key_values
        logits: Tensor = output.logits[:, -1]
        return logits
