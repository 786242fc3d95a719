"""Steering: components applied by hooks for as long as a `with` block lasts. Weights are never touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from steerkit.canonical import parse_layer
from steerkit.engine.models import LoadedModel
from steerkit.engine.operators import AddOperator, check_operator
from steerkit.engine.positions import SCOPES, ChunkTracker, PromptLayout, ScopeMask, mask_scope
from steerkit.engine.sites import REGISTERING, check_site, visit_site
from steerkit.errors import EngineError


@dataclass(frozen=True, eq=False)
class Component:
    """A unit direction (d_model,) float32 and how to apply it. `coefficient` is absolute: in activation units of the site."""

    direction: Tensor
    layer: int
    coefficient: float
    site: str = "resid_post"
    operator: str = "add"
    scope: str = "generated"


class _AppliedComponent:
    """One component on one batch: what the hook runs."""

    def __init__(
        self, component: Component, coefficients: Tensor, layout: PromptLayout, tracker: ChunkTracker, loaded: LoadedModel
    ) -> None:
        self._component, self._coefficients, self._tracker, self._loaded = component, coefficients, tracker, loaded
        self._place(layout)

    def _place(self, layout: PromptLayout) -> None:
        loaded = self._loaded
        direction = self._component.direction.to(loaded.device, torch.float32)
        self._operator = AddOperator(direction, self._coefficients.to(loaded.device), loaded.dtype)
        self._scope: ScopeMask = mask_scope(self._component.scope, layout)

    def select_rows(self, rows: Tensor, layout: PromptLayout) -> None:
        self._coefficients = self._coefficients[rows]
        self._place(layout)

    def visit(self, stream: Tensor) -> None:
        rows, columns = self._scope.prompt.shape
        if stream.shape[0] != rows:
            raise EngineError("LAYOUT_MISMATCH", f"the batch has {stream.shape[0]} rows, the steering was laid out for {rows}", str(rows))
        start = self._tracker.start
        if start >= columns:
            if self._scope.covers_generated:
                self._operator.add_everywhere(stream)
            return
        self._operator.add_where(stream, self._scope.chunk(start, stream.shape[1]).to(stream.device))


class AppliedSteering:
    """The components that are hooked right now. A generation that drops finished rows tells it which ones stay."""

    def __init__(self, layout: PromptLayout, applied: Sequence[_AppliedComponent]) -> None:
        self._layout, self._applied = layout, applied

    def select_rows(self, rows: Tensor) -> None:
        self._layout = self._layout.select_rows(rows)
        for component in self._applied:
            component.select_rows(rows, self._layout)


@contextmanager
def steered(
    loaded: LoadedModel, components: Sequence[Component], layout: PromptLayout, *, row_coefficients: Tensor | None = None
) -> Iterator[AppliedSteering]:
    """Applies the components to every forward pass inside the block, to a batch laid out as `layout`.

    `row_coefficients` (rows, components) replaces the components' own coefficients. A component whose coefficients are all
    zero is not hooked, so that zero runs exactly the code of the unsteered model. Hooks go when the block ends, however it ends.

    Raises: EngineError DIRECTION_SHAPE, NON_FINITE, SITE_UNKNOWN, OPERATOR_UNKNOWN, SCOPE_UNKNOWN, LAYOUT_MISMATCH; LayerError.
    """
    for component in components:
        check_component(loaded, component)
    coefficients = _coefficient_table(components, layout, row_coefficients)
    tracker = ChunkTracker()
    applied: list[_AppliedComponent] = []
    with ExitStack() as hooks:
        for index, component in enumerate(components):
            if not coefficients[:, index].any():
                continue
            applied.append(_AppliedComponent(component, coefficients[:, index], layout, tracker, loaded))
            handle = visit_site(loaded, component.layer, component.site, applied[-1].visit)
            hooks.callback(handle.remove)
        if applied:
            with REGISTERING:
                handle = loaded.decoder.register_forward_pre_hook(tracker.enter_decoder, with_kwargs=True)
            hooks.callback(handle.remove)
        yield AppliedSteering(layout, applied)


def check_component(loaded: LoadedModel, component: Component) -> None:
    """Everything about a component that could be wrong before a token is read. Raises as `steered` does."""
    parse_layer(component.layer, loaded.n_layers)
    check_site(component.site)
    check_operator(component.operator)
    if component.scope not in SCOPES:
        raise EngineError("SCOPE_UNKNOWN", f"token scope {component.scope!r} is not known; known are {', '.join(SCOPES)}", component.scope)
    if component.direction.shape != (loaded.d_model,):
        shape = tuple(component.direction.shape)
        raise EngineError("DIRECTION_SHAPE", f"the direction has shape {shape}, this model needs ({loaded.d_model},)", str(shape))
    if not torch.isfinite(component.direction).all():
        raise EngineError(
            "NON_FINITE", f"the direction for layer {component.layer} holds a value that is not finite", f"layer {component.layer}"
        )


def _coefficient_table(components: Sequence[Component], layout: PromptLayout, row_coefficients: Tensor | None) -> Tensor:
    if row_coefficients is None:
        own = torch.tensor([component.coefficient for component in components], dtype=torch.float32)
        table = own[None, :].expand(layout.rows, -1)
    else:
        table = row_coefficients.to("cpu", torch.float32)
    if table.shape != (layout.rows, len(components)):
        raise EngineError(
            "LAYOUT_MISMATCH", f"coefficients are {tuple(table.shape)}, want {(layout.rows, len(components))}", str(tuple(table.shape))
        )
    if not torch.isfinite(table).all():
        raise EngineError("NON_FINITE", "a coefficient is not finite")
    return table
