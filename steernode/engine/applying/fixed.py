"""Decoding in fixed buffers: every step is the same work on the same memory, so that on a GPU it is captured once and replayed.

Tokens, positions, mask, cache, steering and sampling are data in buffers that keep their place. A step is one of few: for each form of
steering, one for each size of batch and of cache, both rounded up. Prompts are read as ever, in passes of their own.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from steernode.engine.access.cache import FixedCache
from steernode.engine.access.devices import is_out_of_memory
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component, coefficient_table
from steernode.engine.applying.fixedsteering import FixedSteering, Form, ReplyPlan
from steernode.engine.applying.positions import PromptLayout
from steernode.engine.applying.sampling import Sampler
from steernode.engine.applying.stepping import Stepper
from steernode.records.decoding import GREEDY, Sampling

# Forms of steering whose steps are kept, and steps kept of each; those asked for last stay.
_KEPT_FORMS, _KEPT_STEPS = 8, 16
_LEAST_COLUMNS = 64
K = TypeVar("K")
V = TypeVar("V")
Act = Callable[[], None]
logger = logging.getLogger(__name__)


def round_rows(rows: int) -> int:
    """To a power of two."""
    return 1 << (rows - 1).bit_length()


def round_columns(columns: int) -> int:
    """So that at most a quarter of what attention looks at is room for nothing, and sizes are few."""
    step = max(_LEAST_COLUMNS, 1 << max(0, columns.bit_length() - 3))
    return -(-columns // step) * step


@dataclass
class _Steps:
    """Of one form of steering: its buffers, and the steps over them by (rows, columns, way of choosing)."""

    steering: FixedSteering
    replays: OrderedDict[tuple[int, int, str], Act] = field(default_factory=OrderedDict)


class Room:
    """The buffers of one model and the steps over them, lent to one batch at a time.

    `capture(step, restore)` makes of a step what is then run in its place; None runs the step itself. Holds nothing of the model.
    """

    def __init__(self, cache: FixedCache, device: torch.device, capture: Callable[[Act, Act], Act] | None = None) -> None:
        self.cache, self.device, self._capture = cache, device, capture
        self.lock = threading.RLock()
        self.count = torch.zeros((), dtype=torch.long, device=device)
        self.builds = 0
        self._rows = self._columns = 0
        self._make_buffers()

    def start(self, rows: int, columns: int) -> None:
        """An empty batch of that size."""
        fits = rows <= self._rows and columns <= self._columns
        if not fits:
            self._rows, self._columns = max(rows, self._rows), max(columns, self._columns)
        # Both are asked, because the cache has to start anyhow.
        if not self.cache.start(rows, columns) or not fits:
            self._make_buffers()

    def release(self) -> None:
        """Gives the memory back, unless a batch is in it."""
        if self.lock.acquire(blocking=False):
            try:
                self.cache.forget()
                self._rows = self._columns = 0
                self._make_buffers()
            finally:
                self.lock.release()

    def _make_buffers(self) -> None:
        self._steps: OrderedDict[tuple[Form, ...], _Steps] = OrderedDict()
        self.tokens = torch.zeros(self._rows, 1, dtype=torch.long, device=self.device)
        self.positions = torch.zeros_like(self.tokens)
        self._mask = torch.zeros(self.cache.tokens, dtype=torch.long, device=self.device)
        self._sampler = Sampler([GREEDY] * self._rows, self.device)

    @property
    def mask(self) -> Tensor:
        return self._mask[: self.cache.rows * self.cache.columns].view(self.cache.rows, self.cache.columns)

    def put_sampler(self, sampler: Sampler | None, rows: int) -> str:
        """Takes the first rows' ways of choosing over, and names what a step has to do for them."""
        if sampler is None:
            return "greedy"
        self._sampler.select_rows(slice(0, rows)).copy_from(sampler)
        return "nucleus" if sampler.cuts else "drawn"

    def put_steering(self, plan: ReplyPlan, loaded: LoadedModel) -> None:
        self._kept(plan.forms, loaded).steering.put(plan)

    def replay_of(self, forms: tuple[Form, ...], choosing: str, loaded: LoadedModel) -> Act:
        """The step of all rows that the cache has now."""
        steps = self._kept(forms, loaded)
        key = (self.cache.rows, self.cache.columns, choosing)

        def make() -> Act:
            self.builds += 1
            step = self._make_step(steps.steering, choosing, loaded)
            # What is not captured holds the model, and is made again each time.
            return step if self._capture is None else self._try_capture(step)

        replay = make() if self._capture is None else _keep(steps.replays, key, make, _KEPT_STEPS)
        if self._capture is None:
            steps.replays.clear()
        return replay

    def _try_capture(self, step: Act) -> Act:
        restore = self._remember()
        try:
            return self._capture(step, restore) if self._capture else step
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            logger.warning("steps cannot be captured, and are launched kernel by kernel: %s", str(error))
        restore()
        self._capture = None
        return step

    def _kept(self, forms: tuple[Form, ...], loaded: LoadedModel) -> _Steps:
        return _keep(self._steps, forms, lambda: _Steps(FixedSteering(forms, self._rows, self._columns, loaded)), _KEPT_FORMS)

    def _make_step(self, steering: FixedSteering, choosing: str, loaded: LoadedModel) -> Act:
        rows, mask = self.cache.rows, self.mask
        tokens, positions = self.tokens[:rows], self.positions[:rows]
        sampler = self._sampler.select_rows(slice(0, rows))
        sampler.cuts = choosing == "nucleus"

        def step() -> None:
            with steering.hooked(loaded, self.count):
                output: Any = loaded.model(
                    input_ids=tokens,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=self.cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
            logits = output.logits[:, -1]
            chosen = logits.argmax(dim=-1) if choosing == "greedy" else sampler.choose(logits, self.count)
            tokens.copy_(chosen[:, None])
            for place in (positions, self.cache.column, self.count):
                place.add_(1)

        return step

    def _remember(self) -> Act:
        """What puts back all that a step goes on from. Its keys and values are written again by the next."""
        changed = (self.tokens, self.positions, self.cache.column, self.count)
        before = [buffer.clone() for buffer in changed]

        def restore() -> None:
            for buffer, values in zip(changed, before, strict=True):
                buffer.copy_(values)

        return restore


class FixedStepper(Stepper):
    """A `Stepper` whose steps, after the prompts' passes, are those of a `Room`. The room's lock is its caller's."""

    def __init__(
        self, loaded: LoadedModel, rows: Sequence[Sequence[int]], steps: int, sampling: Sequence[Sampling] | None, before: int, room: Room
    ) -> None:
        self._room, self._rows = room, len(rows)
        self._plan, self._choosing = ReplyPlan(()), ""
        self._replay: Act | None = None
        super().__init__(loaded, rows, steps, sampling, before)

    def steer(self, components: Sequence[Component], layout: PromptLayout, row_coefficients: Tensor | None) -> None:
        super().steer(components, layout, row_coefficients)
        self._plan = ReplyPlan.of(components, coefficient_table(components, layout.rows, row_coefficients))

    def step(self) -> list[int]:
        if self._step == 0:
            return super().step()
        replay = self._replay or self._fix()
        replay()
        self._step += 1
        tokens: list[int] = self._room.tokens[: self._rows, 0].tolist()
        return tokens

    def drops(self, kept: int, rows: int) -> bool:
        return round_rows(kept) < round_rows(rows)

    def select_rows(self, kept: Sequence[int]) -> None:
        if self._replay is None:
            self._fix()
        room, self._rows = self._room, len(kept)
        rows = torch.tensor([*kept, *[kept[0]] * (round_rows(len(kept)) - len(kept))], device=room.device)
        mask = room.mask[rows]
        for buffer in (room.tokens, room.positions):
            buffer[: len(rows)] = buffer[rows]
        room.cache.keep_rows(rows)
        room.mask.copy_(mask)
        self._plan = self._plan.select_rows(torch.tensor(kept))
        if self._sampler is not None:
            self._sampler = self._sampler.select_rows(rows[: self._rows])
        self._put()

    def _make_cache(self) -> FixedCache:
        self._room.start(round_rows(len(self._mask)), round_columns(self._mask.shape[1]))
        return self._room.cache

    def _fix(self) -> Act:
        """Hands over what the prompts' passes left. Rows beyond the batch's see what was never written, and nobody reads them."""
        self._hooks.close()
        room, rows = self._room, self._rows
        room.cache.fix()
        room.count.fill_(self._before + self._step)
        for buffer, values in ((room.tokens, self._chunk), (room.positions, self._positions)):
            buffer.zero_()[:rows] = values
        room.mask.fill_(1)[:rows, : self._mask.shape[1]] = self._mask
        return self._put()

    def _put(self) -> Act:
        self._room.put_steering(self._plan, self._loaded)
        choosing = self._room.put_sampler(self._sampler, self._rows)
        self._replay = self._room.replay_of(self._plan.forms, choosing, self._loaded)
        return self._replay


def _keep(kept: OrderedDict[K, V], key: K, make: Callable[[], V], limit: int) -> V:
    """What is kept under the key, or is made now; what was not asked for longest goes."""
    if key not in kept:
        kept[key] = make()
    kept.move_to_end(key)
    while len(kept) > limit:
        kept.popitem(last=False)
    return kept[key]
