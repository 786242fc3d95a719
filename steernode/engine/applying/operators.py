"""Operators: how a component changes the residual stream. All work in place, and leave a row whose coefficient is zero as it was.

`c` is a component's coefficient times its schedule's factor; `v` its unit direction; `p = h · v` the projection.

    add     h' = h + c v                       c in activation units
    ablate  h' = h - c p v                     c a strength from 0 to 1: the share of the projection that goes
    clamp   h' = h - c max(p - b, 0) v, b > 0  c a strength from 0 to 1: the share of what lies past the bound b that goes
            h' = h + c max(b - p, 0) v, b < 0  b in activation units

A smaller |c| therefore always steers less, whatever the operator. With `preserve_norm`, h' is then rescaled to the norm of h.
Sources: add arXiv:2312.06681; ablate arXiv:2406.11717.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from steernode.errors import EngineError
from steernode.words import OPERATORS, STRENGTH_OPERATORS


def check_operator(operator: str) -> None:
    """Raises: EngineError OPERATOR_UNKNOWN."""
    if operator not in OPERATORS:
        raise EngineError("OPERATOR_UNKNOWN", f"operator {operator!r} is not known; known are {', '.join(OPERATORS)}", operator)


def sum_directions(directions: Sequence[Tensor], coefficients: Tensor) -> Tensor:
    """What is added to each row (rows, d_model) float32 on the CPU, from coefficients (rows, directions)."""
    stacked = torch.stack([direction.to("cpu", torch.float64) for direction in directions])
    sums = (coefficients.to("cpu", torch.float64) @ stacked).float()
    # Adding minus zero is the one addition that changes nothing, not even the sign of a zero or an infinity, so rows that are
    # not steered need no path of their own.
    sums[~sums.any(dim=1)] = -0.0
    return sums


class AddOperator:
    """h' = h + Σ c v over components that are added at one place, a sum of its own for each row.

    The sum is made once, in float64 where products of float32 are exact, so that a direction and its opposite leave exactly
    nothing. It is cast once to the dtype of the stream, and a pass then costs one addition.
    """

    def __init__(self, directions: Sequence[Tensor], coefficients: Tensor, dtype: torch.dtype, device: torch.device) -> None:
        """`directions` (d_model,) float32 each; `coefficients` (rows, directions) float32."""
        sums = sum_directions(directions, coefficients)
        self.active = sums.any(dim=1)
        self._sums = sums.to(device)[:, None, :]
        self._dtype = dtype
        self._factor, self._deltas = 1.0, self._sums.to(dtype)

    def change_all(self, stream: Tensor, factor: float = 1.0) -> None:
        """Every position of `stream` (rows, columns, d_model), at one factor above zero."""
        if factor != self._factor:
            self._factor, self._deltas = factor, (self._sums * factor).to(self._dtype)
        stream.add_(self._deltas)

    def change_some(self, stream: Tensor, rows: Tensor, columns: Tensor, factors: Tensor) -> None:
        """The positions (rows[i], columns[i]), each at its own factor; all three (positions,)."""
        deltas = (self._sums[rows, 0] * factors[:, None]).to(self._dtype)
        stream[rows, columns] = stream[rows, columns] + deltas


class StateOperator:
    """An operator whose change depends on the state it meets. Computed in float32 and cast once."""

    def __init__(
        self,
        operator: str,
        direction: Tensor,
        coefficients: Tensor,
        device: torch.device,
        *,
        bound: float | None = None,
        preserve_norm: bool = False,
    ) -> None:
        """`direction` (d_model,) float32; `coefficients` (rows,) float32."""
        self.active = coefficients != 0
        self._active_rows = self.active.nonzero().flatten().to(device)
        self._is_whole = bool(self.active.all())
        self._coefficients = coefficients.to(device)
        self._direction, self._limit = prepare_direction(operator, direction).to(device), bound
        self._change = change_of(operator, bound, preserve_norm)

    def change_all(self, stream: Tensor, factor: float = 1.0) -> None:
        """As `AddOperator.change_all`."""
        if self._is_whole:
            stream.copy_(self._changed(stream, (self._coefficients * factor)[:, None, None]))
        else:
            coefficients = (self._coefficients[self._active_rows] * factor)[:, None, None]
            stream[self._active_rows] = self._changed(stream[self._active_rows], coefficients).to(stream.dtype)

    def change_some(self, stream: Tensor, rows: Tensor, columns: Tensor, factors: Tensor) -> None:
        """As `AddOperator.change_some`."""
        coefficients = self._coefficients[rows] * factors
        hit = coefficients.nonzero().flatten()
        rows, columns = rows[hit], columns[hit]
        stream[rows, columns] = self._changed(stream[rows, columns], coefficients[hit][:, None]).to(stream.dtype)

    def _changed(self, states: Tensor, coefficients: Tensor) -> Tensor:
        """`states` (..., d_model) of any dtype, `coefficients` (..., 1) float32; returns float32."""
        return self._change(states.float(), coefficients, self._direction, self._limit)


Change = Callable[[Tensor, Tensor, Tensor, Any], Tensor]


def prepare_direction(operator: str, direction: Tensor) -> Tensor:
    """In float32, and of unit length for a projection: half precision leaves a stored direction a little off, and a projection would be
    off by its square."""
    direction = direction.float()
    return direction / direction.norm() if operator in STRENGTH_OPERATORS else direction


def change_of(operator: str, bound: float | None, preserve_norm: bool) -> Change:
    """The formula (states, coefficients, direction, limit) -> states, all float32. Of the bound, it holds the side alone."""
    if operator == "clamp":
        side = {"min": 0.0} if bound is not None and bound > 0 else {"max": 0.0}
        change: Change = partial(_clamp, side=side)
    else:
        change = {"add": _add, "ablate": _ablate}[operator]
    return partial(_keep_norm, change) if preserve_norm else change


def _add(states: Tensor, coefficients: Tensor, direction: Tensor, _limit: Any) -> Tensor:
    return states + coefficients * direction


def _ablate(states: Tensor, coefficients: Tensor, direction: Tensor, _limit: Any) -> Tensor:
    return states - coefficients * (states @ direction)[..., None] * direction


def _clamp(states: Tensor, coefficients: Tensor, direction: Tensor, limit: Any, *, side: dict[str, float]) -> Tensor:
    past: Tensor = ((states @ direction)[..., None] - limit).clamp(**side)
    return states - coefficients * past * direction


def _keep_norm(change: Change, before: Tensor, coefficients: Tensor, direction: Tensor, limit: Any) -> Tensor:
    after = change(before, coefficients, direction, limit)
    length = torch.linalg.vector_norm(after, dim=-1, keepdim=True)
    scale = torch.linalg.vector_norm(before, dim=-1, keepdim=True) / length
    # What was removed entirely has no direction left to give a length to.
    return torch.where(length > 0, after * scale, after)
