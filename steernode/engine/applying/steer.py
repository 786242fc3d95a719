"""Steering: components applied by hooks for as long as a `with` block lasts. Weights are never touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby

import torch
from torch import Tensor

from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import hook_before, visit_site
from steernode.engine.applying.components import Component, check_component, coefficient_table, make_operator
from steernode.engine.applying.positions import ChunkTracker, PromptLayout, mask_scope
from steernode.errors import EngineError


class _Step:
    """One operator on one batch: where it applies, and what it does there."""

    def __init__(self, components: Sequence[Component], coefficients: Tensor, layout: PromptLayout, loaded: LoadedModel) -> None:
        """`components` differ in direction alone; `coefficients` (rows, components)."""
        self._components, self._coefficients, self._loaded = components, coefficients, loaded
        self._place(layout)

    def _place(self, layout: PromptLayout) -> None:
        first = self._components[0]
        self._operator = make_operator(self._components, self._coefficients, self._loaded.dtype, self._loaded.device)
        self.is_active = bool(self._operator.active.any())
        self._layout, self._scope, self._schedule = layout, mask_scope(first.scope, layout), first.schedule
        self._columns, self._end = layout.columns, layout.columns - 1
        # After the prompt there is nothing left to look up: this is the path of every generated token.
        self._is_simple_after_prompt = self._schedule.is_constant or layout.ends_together

    def select_rows(self, rows: Tensor, layout: PromptLayout) -> None:
        self._coefficients = self._coefficients[rows]
        self._place(layout)

    def change(self, stream: Tensor, start: int) -> None:
        """`stream` (rows, columns, d_model) holds the columns from `start` on."""
        if start >= self._columns:
            if not self._scope.covers_generated:
                return
            if self._schedule.is_constant:
                self._operator.change_all(stream)
                return
            if not self._is_simple_after_prompt:
                raise EngineError(
                    "LAYOUT_MISMATCH",
                    f"a {self._schedule.kind} schedule cannot go on from a cache of right-padded prompts; pad them on the left",
                    self._schedule.kind,
                )
            if stream.shape[1] == 1:
                factor = self._schedule.factor(start - self._end)
                if factor:
                    self._operator.change_all(stream, factor)
                return
        self._change_chunk(stream, start)

    def _change_chunk(self, stream: Tensor, start: int) -> None:
        length = stream.shape[1]
        tokens = torch.arange(start, start + length)[None, :] - self._layout.ends[:, None]
        factors = self._schedule.factors(tokens).masked_fill(~self._scope.chunk(start, length), 0.0)
        rows, columns = factors.nonzero(as_tuple=True)
        if not len(rows):
            return
        factor = float(factors[rows[0], columns[0]])
        first, last = int(columns.min()), int(columns.max())
        if bool((factors[:, first : last + 1] == factor).all()):
            self._operator.change_all(stream[:, first : last + 1], factor)
            return
        device = stream.device
        self._operator.change_some(stream, rows.to(device), columns.to(device), factors[rows, columns].to(device))


class _SteeredSite:
    """All that happens at one site of one layer, in the order of the components."""

    def __init__(self, steps: Sequence[_Step], tracker: ChunkTracker, rows: int) -> None:
        self.steps, self._tracker, self.rows = steps, tracker, rows

    def visit(self, stream: Tensor) -> None:
        if stream.shape[0] != self.rows:
            raise EngineError(
                "LAYOUT_MISMATCH", f"the batch has {stream.shape[0]} rows, the steering was laid out for {self.rows}", str(self.rows)
            )
        start = self._tracker.start
        for step in self.steps:
            step.change(stream, start)


class AppliedSteering:
    """The components that are hooked right now. A generation that drops finished rows tells it which ones stay."""

    def __init__(self, layout: PromptLayout, sites: Sequence[_SteeredSite]) -> None:
        self._layout, self._sites = layout, sites

    def select_rows(self, rows: Tensor) -> None:
        """`rows` are indices into the batch as it is now, beams included."""
        self._layout = self._layout.select_rows(rows)
        for site in self._sites:
            site.rows = self._layout.rows
            for step in site.steps:
                step.select_rows(rows, self._layout)
            site.steps = [step for step in site.steps if step.is_active]


@contextmanager
def steered(
    loaded: LoadedModel, components: Sequence[Component], layout: PromptLayout, *, row_coefficients: Tensor | None = None, beams: int = 1
) -> Iterator[AppliedSteering]:
    """Applies the components to every forward pass inside the block, to a batch laid out as `layout`.

    `row_coefficients` (rows, components) replaces the components' own coefficients. `beams` says that every row of the layout
    stands that many times in the batch, one after the other, as beam search has them.

    Components at one site of one layer apply in the given order; neighbours that only add, at the same tokens, are added up
    first. A component whose coefficients are all zero is not hooked, so that zero runs exactly the code of the unsteered
    model. All state is in this block; hooks answer only to the thread that set them, and go when the block ends, however it ends.

    Raises: EngineError DIRECTION_SHAPE, DIRECTION_NORM, NON_FINITE, SITE_UNKNOWN, SITE_LAYER, SITE_ABSENT, OPERATOR_UNKNOWN, SCOPE_UNKNOWN,
    SCHEDULE_UNKNOWN, SCHEDULE_INVALID, BOUND_INVALID, STRENGTH_RANGE, BEAMS_INVALID, LAYOUT_MISMATCH; LayerError.
    """
    for component in components:
        check_component(loaded, component)
    coefficients = coefficient_table(components, layout.rows, row_coefficients)
    if isinstance(beams, bool) or not isinstance(beams, int) or beams < 1:
        raise EngineError("BEAMS_INVALID", f"beams must be an integer of at least 1, got {beams!r}", str(beams))
    if beams > 1:
        rows = torch.arange(layout.rows).repeat_interleave(beams)
        layout, coefficients = layout.select_rows(rows), coefficients[rows]
    tracker = ChunkTracker(loaded.decoder)
    sites: list[_SteeredSite] = []
    with ExitStack() as hooks:
        for (layer, site), sums in plan_sites(components, coefficients).items():
            made = [_Step([components[index] for index in chosen], coefficients[:, chosen], layout, loaded) for chosen in sums]
            steps = [step for step in made if step.is_active]
            if not steps:
                continue
            sites.append(_SteeredSite(steps, tracker, layout.rows))
            handle = visit_site(loaded, layer, site, sites[-1].visit)
            hooks.callback(handle.remove)
        if sites:
            hooks.callback(hook_before(loaded.decoder, tracker.enter_decoder).remove)
        yield AppliedSteering(layout, sites)


def plan_sites(components: Sequence[Component], coefficients: Tensor) -> dict[tuple[int, str], list[list[int]]]:
    """The components that act at each site of a layer, by index and in their order; those in one list are added up first.

    One whose `coefficients` (rows, components) are all zero does not act.
    """
    places: dict[tuple[int, str], list[int]] = {}
    for index, component in enumerate(components):
        if coefficients[:, index].any():
            places.setdefault((component.layer, component.site), []).append(index)

    def same_sum(index: int) -> object:
        component = components[index]
        return (component.scope, component.schedule) if component.is_plain_sum else index

    return {place: [list(group) for _, group in groupby(indices, key=same_sum)] for place, indices in places.items()}
