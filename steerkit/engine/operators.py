"""Operators: how a component changes the residual stream. All work in place; none touches a row whose coefficient is zero."""

from __future__ import annotations

import torch
from torch import Tensor

from steerkit.errors import EngineError

OPERATORS = ("add",)
_LATER_OPERATORS = ("ablate", "clamp")


def check_operator(operator: str) -> None:
    """Raises: EngineError OPERATOR_UNKNOWN."""
    if operator in _LATER_OPERATORS:
        raise EngineError("OPERATOR_UNKNOWN", f"operator {operator!r} is not in this release; it has {', '.join(OPERATORS)}", operator)
    if operator not in OPERATORS:
        raise EngineError("OPERATOR_UNKNOWN", f"operator {operator!r} is not known; known are {', '.join(OPERATORS)}", operator)


class AddOperator:
    """h' = h + coefficient · direction, with a coefficient per row.

    The product is made once in float32 and cast once to the dtype of the stream; a pass then costs one addition.
    """

    def __init__(self, direction: Tensor, coefficients: Tensor, dtype: torch.dtype) -> None:
        """`direction` (d_model,) float32; `coefficients` (rows,) float32."""
        self._coefficients = coefficients
        self._deltas = (coefficients[:, None] * direction[None, :]).to(dtype)
        # Rows are picked by coefficient, never by value: h + 0 would still turn -0 into +0 and meet an infinity with a NaN.
        self.active_rows = coefficients.nonzero().flatten()
        self._active_deltas = self._deltas[self.active_rows]

    @property
    def steers_every_row(self) -> bool:
        return len(self.active_rows) == len(self._coefficients)

    def add_everywhere(self, stream: Tensor) -> None:
        """Every column of the chunk (rows, columns, d_model) is in scope."""
        if self.steers_every_row:
            stream.add_(self._deltas[:, None, :])
        elif len(self.active_rows):
            stream.index_add_(0, self.active_rows, self._active_deltas[:, None, :].expand(-1, stream.shape[1], -1))

    def add_where(self, stream: Tensor, mask: Tensor) -> None:
        """Only the columns where `mask` (rows, columns) is true are in scope."""
        rows, columns = (mask & (self._coefficients != 0)[:, None]).nonzero(as_tuple=True)
        if len(rows):
            stream.index_put_((rows, columns), self._deltas[rows], accumulate=True)
