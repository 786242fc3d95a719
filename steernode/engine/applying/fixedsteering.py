"""Steering in fixed buffers: what a step adds to the stream is data at places in memory that stay, so that α, rows and vectors change
under a step that is replayed. Only the form of the steering, which operators act where, is the step's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import Visit, visit_site
from steernode.engine.applying.components import Component
from steernode.engine.applying.operators import change_of, prepare_direction, sum_directions
from steernode.engine.applying.positions import covers_reply
from steernode.engine.applying.steer import plan_sites


@dataclass(frozen=True)
class Form:
    """Of one operator, what is no data: whatever differs here is another step."""

    layer: int
    site: str
    operator: str
    is_constant: bool
    preserve_norm: bool = False
    caps_above: bool = False

    @classmethod
    def of(cls, component: Component) -> Form:
        caps_above = component.bound is not None and component.bound > 0
        how = (component.operator, component.schedule.is_constant, component.preserve_norm, caps_above)
        return cls(component.layer, component.site, *how)

    @property
    def is_plain_sum(self) -> bool:
        return self.operator == "add" and not self.preserve_norm


@dataclass(frozen=True, eq=False)
class ReplyPlan:
    """What acts on the reply after its first token, which the prompt's pass made: operators in the order of their sites, each with the
    components that it is made of, and their coefficients (rows, components)."""

    entries: tuple[tuple[Form, tuple[Component, ...], Tensor], ...]

    @classmethod
    def of(cls, components: Sequence[Component], coefficients: Tensor) -> ReplyPlan:
        entries = []
        for sums in plan_sites(components, coefficients).values():
            for indices in sums:
                chosen = tuple(components[index] for index in indices)
                if covers_reply(chosen[0].scope):
                    entries.append((Form.of(chosen[0]), chosen, coefficients[:, indices]))
        return cls(tuple(entries))

    @property
    def forms(self) -> tuple[Form, ...]:
        return tuple(form for form, _, _ in self.entries)

    def select_rows(self, rows: Tensor) -> ReplyPlan:
        return ReplyPlan(tuple((form, components, coefficients[rows]) for form, components, coefficients in self.entries))


class FixedSteering:
    """The buffers of some forms, with room for `rows` rows and schedules of `columns` tokens."""

    def __init__(self, forms: Sequence[Form], rows: int, columns: int, loaded: LoadedModel) -> None:
        self._steps = [_FixedStep(form, rows, columns, loaded) for form in forms]

    def put(self, plan: ReplyPlan) -> None:
        """From here on the first rows are steered as the plan says, and those after its last one are not."""
        for step, (_, components, coefficients) in zip(self._steps, plan.entries, strict=True):
            step.put(components, coefficients)

    @contextmanager
    def hooked(self, loaded: LoadedModel, token: Tensor) -> Iterator[None]:
        """Steers every pass of one column inside the block; `token` is the number of its place in the reply, on the device."""
        with ExitStack() as hooks:
            for step in self._steps:
                hooks.callback(visit_site(loaded, step.form.layer, step.form.site, step.visit(token)).remove)
            yield


class _FixedStep:
    def __init__(self, form: Form, rows: int, columns: int, loaded: LoadedModel) -> None:
        device = loaded.device
        self.form = form
        self._factors = torch.zeros(columns, device=device)
        if form.is_plain_sum:
            # What does not change over the reply is cast once, what does at every step.
            self._sums = torch.zeros(rows, 1, loaded.d_model, dtype=loaded.dtype if form.is_constant else torch.float32, device=device)
            return
        self._coefficients = torch.zeros(rows, 1, 1, device=device)
        self._direction = torch.zeros(loaded.d_model, device=device)
        self._limit = torch.zeros((), device=device)
        self._change = change_of(form.operator, 1.0 if form.caps_above else -1.0, form.preserve_norm)

    def put(self, components: Sequence[Component], coefficients: Tensor) -> None:
        first, rows = components[0], len(coefficients)
        if not self.form.is_constant:
            self._factors.copy_(first.schedule.factors(torch.arange(len(self._factors))))
        if self.form.is_plain_sum:
            self._sums[:rows, 0] = sum_directions([component.direction for component in components], coefficients).to(self._sums)
            self._sums[rows:] = -0.0
            return
        self._coefficients[:rows, 0, 0] = coefficients[:, 0].to(self._coefficients)
        self._coefficients[rows:] = 0.0
        self._direction.copy_(prepare_direction(first.operator, first.direction))
        self._limit.fill_(first.bound or 0.0)

    def visit(self, token: Tensor) -> Visit:
        def change(stream: Tensor) -> None:
            rows = len(stream)
            factor = None if self.form.is_constant else self._factors.index_select(0, token[None])
            if self.form.is_plain_sum:
                stream.add_(self._sums[:rows] if factor is None else _weaken(self._sums[:rows], factor).to(stream.dtype))
                return
            coefficients = self._coefficients[:rows] if factor is None else self._coefficients[:rows] * factor
            before = stream.float()
            # A row that is not steered keeps its bits, whatever the formula makes of zero.
            stream.copy_(torch.where(coefficients != 0, self._change(before, coefficients, self._direction, self._limit), before))

        return change


def _weaken(sums: Tensor, factor: Tensor) -> Tensor:
    """Minus zero where nothing is left, which changes nothing that it is added to."""
    return (sums * factor).masked_fill(factor == 0, -0.0)
