"""Doses: a grid of α for each layer, by how far it moves what the model says anyway, so that layers are compared at one dose.

One unit of α does many times as much at one layer as at another, so that a grid for all of them is too coarse for some and useless
for others. What moves the next token equally far is the same dose everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from math import exp, log, sqrt
from typing import Any

from steernode.canonical import format_decimal, format_measure
from steernode.engine.access.models import LoadedModel
from steernode.engine.measuring.gates import judge_gates
from steernode.engine.measuring.items import EvalItems, spread
from steernode.engine.reading.directions import LayerDirection
from steernode.engine.searching.calibrate import Calibration, calibrate_layers, neutral_texts
from steernode.engine.searching.recipe import SweepRecipe
from steernode.words import ALPHA_CAPS

# Nats of KL per token, 95th percentile, on neutral prompts; the last is where the shipped gates end, and the one that is searched for.
KL_TARGETS = ("0.05", "0.1", "0.2", "0.35", "0.6", "1")
NEUTRAL_PROMPTS = 12
NEUTRAL_TOKENS = 32
# For small doses the divergence grows with the square of α.
_SMALL_DOSE_SLOPE = 2.0


@dataclass(frozen=True)
class Dose:
    """One α of a layer's grid, and the divergence that it is meant to reach; None where the grid was given and not found."""

    alpha: str
    target_kl: str | None = None


Grids = Mapping[int, Sequence[Dose]]


def find_grids(
    loaded: LoadedModel, directions: Sequence[LayerDirection], items: EvalItems, recipe: SweepRecipe, *, cap: str | None = None
) -> tuple[Grids, dict[str, Any]]:
    """Each layer's grid without 0, by rising α up to `cap`; and the document of how it was found. Layers that nothing moves are not in it.

    Raises: EngineError KL_UNRESPONSIVE if no layer moves anything, and the codes of `generate` and `score_forced`.
    """
    neutral = [item.messages for item in (*items.facts, *items.refusals) if not item.expect.get("refuse")]
    texts = neutral_texts(loaded, spread(neutral, NEUTRAL_PROMPTS), max_new_tokens=NEUTRAL_TOKENS)
    cap = cap or ALPHA_CAPS[recipe.unit]
    options = {"unit": recipe.unit, "operator": recipe.operator, "scope": recipe.scope}
    found = calibrate_layers(loaded, directions, texts, cap=cap, target=KL_TARGETS[-1], **options)
    grids = {layer: lay_grid(calibration) for layer, calibration in found.items()}
    document = {
        "targets": list(KL_TARGETS),
        "prompts": len(texts),
        "cap": cap,
        "layers": {str(layer): {**each.to_document(), "grid": [dose.alpha for dose in grids[layer]]} for layer, each in found.items()},
        "unmoved": sorted({direction.layer for direction in directions} - set(found)),
    }
    return grids, document


def lay_grid(calibration: Calibration) -> list[Dose]:
    """An α for each target, between what was evaluated by straight lines in log α and log KL, below it with the square of α.

    None lies beyond what was evaluated. Where the cap ended the search no target beyond it has one; the cap is the last dose then.
    """
    known = sorted((log(abs(float(alpha))), log(max(float(kl), 1e-9))) for alpha, kl in calibration.path)
    farthest = max(abs(Decimal(alpha)) for alpha, _ in calibration.path)
    sign, last = (-1 if Decimal(calibration.alpha) < 0 else 1), abs(Decimal(calibration.alpha))
    doses: list[Dose] = []
    for target in KL_TARGETS:
        alpha = min(farthest, Decimal(format_measure(exp(_solve(known, log(float(target)))), significant_digits=3)))
        if not calibration.reached and float(target) >= float(calibration.kl_p95):
            alpha = last
        if all(alpha != abs(Decimal(dose.alpha)) for dose in doses):
            doses.append(Dose(format_decimal(sign * alpha), target))
        if not calibration.reached and alpha == last:
            break
    return doses


def refine_doses(cells: Sequence[Mapping[str, Any]], layer: int, doses: Sequence[Dose], gates: Sequence[Mapping[str, str]]) -> list[Dose]:
    """The doses half-way between the layer's best one on its grid and its neighbours there, 0 included.

    The usable window is often narrower than any grid worth measuring, and a cell far outside it teaches nothing.
    """
    final = [cell for cell in cells if cell["stage"] == "final"]
    baseline = next(cell for cell in final if cell["layer"] is None)
    grid = sorted([Dose("0", "0" if doses[0].target_kl else None), *doses], key=lambda dose: Decimal(dose.alpha))
    places = [Decimal(dose.alpha) for dose in grid]
    own = [cell for cell in final if cell["layer"] == layer and Decimal(cell["alpha"]) in places]

    def merit(cell: Mapping[str, Any]) -> tuple[int, Decimal, Decimal]:
        passed = sum(judged["verdict"] == "pass" for judged in judge_gates(gates, cell, baseline))
        return passed, Decimal(cell["behaviour"]), -abs(Decimal(cell["alpha"]))

    best = places.index(Decimal(max(own, key=merit)["alpha"]))
    return [_halve(low, high) for low, high in pairwise(grid[max(0, best - 1) : best + 2])]


def _halve(low: Dose, high: Dose) -> Dose:
    """The dose half-way between two neighbours, 0 among them."""
    alpha = format_decimal((Decimal(low.alpha) + Decimal(high.alpha)) / 2)
    if low.target_kl is None or high.target_kl is None:
        return Dose(alpha)
    root = (sqrt(float(low.target_kl)) + sqrt(float(high.target_kl))) / 2
    return Dose(alpha, format_measure(root**2, significant_digits=3))


def _solve(known: Sequence[tuple[float, float]], wanted: float) -> float:
    """log α at which the line through what is known has the log KL that is wanted."""
    for (alpha, kl), (after, kl_after) in pairwise(known):
        if kl <= wanted <= kl_after and kl_after > kl:
            return alpha + (wanted - kl) / (kl_after - kl) * (after - alpha)
    alpha, kl = known[0] if wanted < known[0][1] else known[-1]
    return alpha + (wanted - kl) / _SMALL_DOSE_SLOPE
