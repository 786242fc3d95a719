"""Components: a direction and how it is applied, checked before anything is hooked, and put together into batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from steernode.canonical import format_measure
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import check_layer_site
from steernode.engine.applying.operators import AddOperator, StateOperator, check_operator
from steernode.engine.applying.positions import check_scope
from steernode.engine.applying.schedules import CONSTANT, SCHEDULES, Schedule, check_schedule
from steernode.engine.reading.directions import LayerDirection
from steernode.errors import EngineError
from steernode.snapshot.resolve import EffectiveComponent, absolute_coefficient
from steernode.words import OPERATORS, OVERRIDE_KINDS, SCOPES, SITES, STRENGTH_OPERATORS

# All that profiles may ask of an engine, as `records.required_capabilities` writes it.
_KINDS = {"operator": OPERATORS, "site": SITES, "scope": SCOPES, "schedule": SCHEDULES, "condition": OVERRIDE_KINDS}
_SWITCHES = ("preserve_norm", "template_arguments", "covered_forms")
CAPABILITIES = frozenset([*_SWITCHES, *(f"{name}:{kind}" for name, kinds in _KINDS.items() for kind in kinds)])


@dataclass(frozen=True, eq=False)
class Component:
    """A unit direction (d_model,) float32 and how to apply it.

    `coefficient`: for `add`, absolute, in activation units of the site; for `ablate` and `clamp`, a strength from 0 to 1.
    `bound`: for `clamp` only, in activation units. `preserve_norm` rescales each changed state to the norm it had.
    """

    direction: Tensor
    layer: int
    coefficient: float
    site: str = "resid_post"
    operator: str = "add"
    scope: str = "generated"
    schedule: Schedule = CONSTANT
    preserve_norm: bool = False
    bound: float | None = None

    @classmethod
    def of(cls, entry: EffectiveComponent, direction: Tensor) -> Component:
        """What a component of a snapshot comes to, on the direction in its vector file."""
        component = entry.component
        return cls(
            direction,
            component.layer,
            float(entry.coefficient),
            component.site,
            component.operator,
            component.scope,
            Schedule(component.schedule.kind, component.schedule.parameters),
            component.preserve_norm,
            None if entry.bound is None else float(entry.bound),
        )

    @property
    def is_plain_sum(self) -> bool:
        return self.operator == "add" and not self.preserve_norm


def coefficient_of(direction: LayerDirection, alpha: str, unit: str) -> Decimal:
    """The factor on the unit direction, from the same rounded norms that the vector file and the snapshot will carry."""
    norm, residual = Decimal(format_measure(direction.norm)), Decimal(format_measure(direction.mean_residual_norm))
    return absolute_coefficient(Decimal(alpha), unit=unit, norm=norm, mean_residual_norm=residual)


def component_of(direction: LayerDirection, alpha: str, unit: str, operator: str = "add", scope: str = "generated") -> Component:
    """A direction applied where it was read, at α in `unit`. A strength has no unit."""
    coefficient = Decimal(alpha) if operator in STRENGTH_OPERATORS else coefficient_of(direction, alpha, unit)
    return Component(direction.direction, direction.layer, float(coefficient), direction.site, operator, scope)


def make_operator(
    components: Sequence[Component], coefficients: Tensor, dtype: torch.dtype, device: torch.device
) -> AddOperator | StateOperator:
    """What components do that differ in direction alone: one, or several that are a plain sum. `coefficients` (rows, components)."""
    first = components[0]
    if first.is_plain_sum:
        return AddOperator([component.direction for component in components], coefficients, dtype, device)
    return StateOperator(first.operator, first.direction, coefficients[:, 0], device, bound=first.bound, preserve_norm=first.preserve_norm)


def group_acting(components: Sequence[Component], acts: npt.NDArray[np.bool_]) -> list[tuple[list[int], list[Component]]]:
    """The rows on which the same components act, with these, by `acts` (rows, components); those on which none does are in no group."""
    found = []
    for pattern in np.unique(acts, axis=0):
        acting = [component for component, is_acting in zip(components, pattern, strict=True) if is_acting]
        if acting:
            found.append((np.flatnonzero((acts == pattern).all(axis=1)).tolist(), acting))
    return found


def union_components(rows: Sequence[Sequence[Component]]) -> tuple[tuple[Component, ...], Tensor]:
    """One batch out of rows that are each steered by components of their own, such as different profiles.

    Returns: the components without repetition, and `row_coefficients` (rows, components) for `steered` and `generate`. Each
    row's components keep their order. Two components are the same if all but the coefficient is, the direction by identity.
    """
    union: list[Component] = []
    placed: list[dict[int, float]] = []
    for row in rows:
        coefficients: dict[int, float] = {}
        start = 0
        for component in row:
            place = next((place for place in range(start, len(union)) if _key(union[place]) == _key(component)), None)
            if place is None:
                place = start
                union.insert(place, component)
                placed = [{index + (index >= place): value for index, value in before.items()} for before in placed]
            coefficients[place] = component.coefficient
            start = place + 1
        placed.append(coefficients)
    table = torch.zeros(len(rows), len(union))
    for index, coefficients in enumerate(placed):
        for place, value in coefficients.items():
            table[index, place] = value
    return tuple(union), table


def _key(component: Component) -> tuple[object, ...]:
    how = (component.layer, component.site, component.operator, component.scope, component.schedule, component.preserve_norm)
    return (id(component.direction), *how, component.bound)


def check_component(loaded: LoadedModel, component: Component) -> None:
    """Everything about a component that could be wrong before a token is read. Raises as `steered` does."""
    check_layer_site(loaded, component.layer, component.site)
    check_operator(component.operator)
    check_scope(component.scope)
    check_schedule(component.schedule)
    if component.direction.shape != (loaded.d_model,):
        shape = tuple(component.direction.shape)
        raise EngineError("DIRECTION_SHAPE", f"the direction has shape {shape}, this model needs ({loaded.d_model},)", str(shape))
    where = f"layer {component.layer}"
    if not torch.isfinite(component.direction).all():
        raise EngineError("NON_FINITE", f"the direction for {where} holds a value that is not finite", where)
    if component.operator in STRENGTH_OPERATORS and not 0.99 <= float(component.direction.norm()) <= 1.01:
        norm = f"{float(component.direction.norm()):.6g}"
        raise EngineError("DIRECTION_NORM", f"{component.operator} needs a unit direction, the one for {where} has norm {norm}", norm)
    is_bounded = component.bound is not None
    if is_bounded != (component.operator == "clamp"):
        problem = "takes no bound" if is_bounded else "needs a bound"
        raise EngineError("BOUND_INVALID", f"{component.operator} at {where} {problem}", str(component.bound))
    if component.bound is not None and (not math.isfinite(component.bound) or component.bound == 0):
        bound = f"{component.bound:g}"
        raise EngineError("BOUND_INVALID", f"the sign of a clamp's bound says which side it caps: it must be finite, not {bound}", bound)


def coefficient_table(components: Sequence[Component], rows: int, row_coefficients: Tensor | None) -> Tensor:
    """(rows, components) float32 on the CPU. Raises: EngineError LAYOUT_MISMATCH, NON_FINITE, STRENGTH_RANGE."""
    if row_coefficients is None:
        own = torch.tensor([component.coefficient for component in components], dtype=torch.float32)
        table = own[None, :].expand(rows, -1)
    else:
        table = row_coefficients.to("cpu", torch.float32)
    if table.shape != (rows, len(components)):
        raise EngineError(
            "LAYOUT_MISMATCH", f"coefficients are {tuple(table.shape)}, want {(rows, len(components))}", str(tuple(table.shape))
        )
    finite = torch.isfinite(table)
    if not finite.all():
        row, index = (~finite).nonzero()[0].tolist()
        raise EngineError("NON_FINITE", f"the coefficient of component {index} in row {row} is not finite", f"component {index}")
    for index, component in enumerate(components):
        column = table[:, index]
        if component.operator in STRENGTH_OPERATORS and not bool(((column >= 0) & (column <= 1)).all()):
            worst = f"{float(column.min() if column.min() < 0 else column.max()):g}"
            raise EngineError("STRENGTH_RANGE", f"the strength of {component.operator} must be from 0 to 1, got {worst}", worst)
    return table
