"""Screening: which layers are worth generating with, found by teacher forcing on contrast items and successive halving.

Every round measures on items that no earlier round has seen, as long as there are any: a layer that was lucky once is not judged by
the same luck again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from steernode.engine.access.batches import Progress
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.measuring.forced import percentile_kl, score_forced
from steernode.engine.measuring.margins import MarginItem, margin_texts, margins_of
from steernode.engine.measuring.stats import bounds, estimate_mean, measure
from steernode.engine.searching.recipe import SweepRecipe
from steernode.gates import allows_depth

Cell = dict[str, Any]


@dataclass(frozen=True)
class Round:
    """So many layers on these items; the best `keep` go on."""

    layers: int
    items: tuple[MarginItem, ...]
    keep: int


def plan_rounds(n_layers: int, items: Sequence[MarginItem], recipe: SweepRecipe) -> list[Round]:
    """Twice the items and half the layers each time, so that every round costs about the same; none if there is nothing to choose."""
    rounds: list[Round] = []
    start, count = 0, recipe.screen_items
    while n_layers > recipe.finalists:
        # Where fresh items run out, the last ones are looked at again.
        start = max(0, min(start, len(items) - count))
        keep = max(recipe.finalists, (n_layers + 1) // 2)
        rounds.append(Round(n_layers, tuple(items[start : start + count]), keep))
        n_layers, start, count = keep, start + count, 2 * count
    return rounds


def spread_items(items: Sequence[MarginItem]) -> tuple[MarginItem, ...]:
    """The items in an order in which every beginning is spread over the whole: a set sorted by product is not screened on one product."""
    bits = max(1, (len(items) - 1).bit_length())
    return tuple(items[index] for index in sorted(range(len(items)), key=lambda index: f"{index:0{bits}b}"[::-1]))


def measure_screen(
    loaded: LoadedModel, items: Sequence[MarginItem], variants: Mapping[tuple[int, str], Component], on_progress: Progress | None = None
) -> dict[tuple[int | None, str], Cell]:
    """What each (layer, α) does to the items, and the unsteered model as (None, "0"); all numbers are decimal strings.

    `margin` is the mean over items, in nats; `margin_shift` its change from the unsteered model, with its interval; `share_rising` the
    share of items on which it rose. `kl_p95` is the 95th percentile over tokens of KL(unsteered ‖ steered), `kl_last` its mean at the last
    prompt token. `on_progress(done, total)` counts items under one (layer, α).
    """

    def count_items(texts: int, total: int) -> None:
        if on_progress is not None:
            on_progress(texts // 2, total // 2)

    keys: list[tuple[int | None, str]] = [(None, "0"), *variants]
    scores = score_forced(loaded, margin_texts(items), [(), *([component] for component in variants.values())], on_progress=count_items)
    margins = margins_of(scores.log_likelihood)
    cells: dict[tuple[int | None, str], Cell] = {}
    for index, key in enumerate(keys):
        shift = margins[index] - margins[0]
        cells[key] = {
            "items": {"margins": len(items)},
            "margin": measure(float(margins[index].mean())),
            "margin_shift": measure(float(shift.mean())),
            **bounds("margin_shift", estimate_mean(shift)),
            "share_rising": measure(float((shift > 0).mean())),
            "kl_p95": measure(percentile_kl(scores.kl, index)),
            "kl_last": measure(float(np.mean([values[index, 0] for values in scores.kl]))),
        }
    return cells


def rank_layers(cells: Sequence[Mapping[str, Any]], recipe: SweepRecipe) -> list[int]:
    """The layers of one round's cells, best first: first whether the layer may be chosen at all, then by the margin shift that
    it buys with the divergence that the recipe allows; ties go to the lower layer."""

    def merit(layer: int) -> tuple[bool, float, int]:
        own = [cell for cell in cells if cell["layer"] == layer]
        return allows_depth(recipe.gates, Decimal(own[0]["layer_depth"])), bought_shift(own, float(recipe.screen_kl)), -layer

    layers = {cell["layer"] for cell in cells if cell["layer"] is not None}
    return sorted(layers, key=merit, reverse=True)


def bought_shift(cells: Sequence[Mapping[str, Any]], kl: float, field: str = "margin_shift") -> float:
    """The largest margin shift of one layer, or an end of its interval, at a divergence of at most `kl` nats, between grid points by
    interpolation.

    Layers differ in how much one unit of α does, so that they are compared at equal divergence and not at equal α. Along α the
    root of the divergence grows about linearly, and so does the shift. Beyond the grid nothing is assumed.
    """
    best = 0.0
    for sign in (1, -1):
        doses = sorted((sign * float(cell["alpha"]), float(cell["kl_p95"]) ** 0.5, float(cell[field])) for cell in cells)
        last_root, last_shift = 0.0, 0.0
        for alpha, root, shift in doses:
            if alpha <= 0:
                continue
            if root > kl**0.5:
                part = (kl**0.5 - last_root) / (root - last_root)
                best = max(best, last_shift + part * (shift - last_shift))
                break
            best = max(best, shift)
            last_root, last_shift = root, shift
    return best
