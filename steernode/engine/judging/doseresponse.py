"""Dose-response: how the contrast margin of every test item moves as α goes from one side of zero to the other.

An average effect hides items that go the wrong way, effects that turn around at a higher α, and effects that hold for one locale
or one system message only; each has a number here. Sources: arXiv:2407.12404 (slopes, the anti-steerable share, spurious
factors, changed prompts), arXiv:2410.17245 (likelihoods and baselines).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import optimize, stats

from steernode.canonical import format_decimal
from steernode.engine.access.encoding import encode_prompts
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.systems import put_under
from steernode.engine.applying.components import Component
from steernode.engine.measuring.hypotheses import adjust_p_values
from steernode.engine.measuring.margins import MarginItem, margin_slopes, measure_margins
from steernode.engine.measuring.stats import Estimate, Floats, estimate_mean, estimate_of_means, estimate_ratio, estimate_share, measure
from steernode.errors import EngineError
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message
from steernode.words import STRENGTH_OPERATORS

# Parts of the proposed α. Beyond it nothing is served, so nothing is measured; the far side of zero shows that the sign is right.
STEPS = ("-1", "-0.5", "-0.25", "0", "0.25", "0.5", "1")
# No contrast set asks for it and every chat model has met something like it.
CHANGED_SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True, eq=False)
class DoseResponse:
    """Margins (alphas, items) in nats over a rising grid of α that holds 0, and the same items under a changed system message.

    `changed` (3, items) is at the lowest, zero and the highest α. `proposed` is the α of the candidate, at one end of the grid.
    """

    alphas: tuple[str, ...]
    proposed: str
    unit: str
    items: tuple[MarginItem, ...]
    margins: Floats
    changed: Floats

    @property
    def clusters(self) -> list[str]:
        return [item.cluster for item in self.items]

    @property
    def slopes(self) -> Floats:
        """Nats per unit of α, one per item."""
        return margin_slopes([float(alpha) for alpha in self.alphas], self.margins)

    @property
    def slope(self) -> Estimate:
        return estimate_mean(self.slopes, self.clusters)

    @property
    def anti_steerable(self) -> Estimate:
        """The share of items that the vector moves the wrong way."""
        return estimate_share((self.slopes < 0).astype(np.float64), self.clusters)

    @property
    def ood_ratio(self) -> Estimate:
        """How much of the slope is left under the changed system message, both over the same three α."""
        ends = [0, self.alphas.index("0"), len(self.alphas) - 1]
        alphas = [float(self.alphas[index]) for index in ends]
        return estimate_ratio(margin_slopes(alphas, self.changed), margin_slopes(alphas, self.margins[ends]), self.clusters)

    @property
    def spearman(self) -> Estimate:
        return estimate_of_means(self.margins, rank_correlation, self.clusters)

    @property
    def isotonic_r2(self) -> Estimate:
        return estimate_of_means(self.margins, isotonic_r2, self.clusters)

    @property
    def largest_adverse_step(self) -> Estimate:
        return estimate_of_means(self.margins, largest_adverse_step, self.clusters)

    def metrics(self) -> dict[str, Estimate]:
        """What gates may be about."""
        names = ("slope", "anti_steerable", "ood_ratio", "spearman", "isotonic_r2", "largest_adverse_step")
        return {name: getattr(self, name) for name in names}

    def to_document(self) -> dict[str, Any]:
        low, high = monotone_range(self.alphas, self.margins.mean(axis=1))
        zero = self.alphas.index("0")
        steered = [index for index in range(len(self.alphas)) if index != zero]
        # Below zero the wanted shift is downwards.
        signs = np.sign([float(self.alphas[index]) for index in steered])
        adjusted = adjust_p_values(signs[:, None] * (self.margins[steered] - self.margins[zero]), self.clusters)
        curve = [
            {"alpha": alpha, "margin": estimate_mean(margins, self.clusters).to_document()}
            for alpha, margins in zip(self.alphas, self.margins, strict=True)
        ]
        for index, p_value in zip(steered, adjusted, strict=True):
            curve[index]["adjusted_p"] = measure(float(p_value))
        return {
            "unit": self.unit,
            "items": len(self.items),
            "changed_system": CHANGED_SYSTEM,
            "curve": curve,
            "monotone_range": {"low": low, "high": high},
            **{name: estimate.to_document() for name, estimate in self.metrics().items()},
            "slope_by_locale": self._slope_by([item.locale for item in self.items]),
            "slope_by_product": self._slope_by([item.product for item in self.items]),
        }

    def _slope_by(self, groups: Sequence[str]) -> dict[str, Any]:
        slopes, clusters = self.slopes, self.clusters
        rows_of = {group: [row for row, name in enumerate(groups) if name == group] for group in sorted(set(groups))}
        return {
            group or "unnamed": estimate_mean(slopes[rows], [clusters[row] for row in rows]).to_document()
            for group, rows in rows_of.items()
        }


def measure_dose_response(
    loaded: LoadedModel, component: Component, alpha: str, unit: str, items: Sequence[MarginItem], pairs: Sequence[ContrastPair]
) -> DoseResponse:
    """`component` is the candidate at `alpha`, in `unit`; `pairs` holds at least the pairs of the items.

    Operators that take a strength from 0 to 1 have no far side of zero; their grid starts there.

    Raises: EngineError ALPHA_ZERO, MARGIN_EMPTY, and the codes of encoding and `score_forced`.
    """
    if not Decimal(alpha):
        raise EngineError("ALPHA_ZERO", "at α = 0 nothing is steered, so there is no dose-response to measure", alpha)
    steps = [step for step in STEPS if component.operator not in STRENGTH_OPERATORS or not step.startswith("-")]
    if Decimal(alpha) < 0:
        steps.reverse()
    alphas = [Decimal(alpha) * Decimal(step) for step in steps]
    variants = [[replace(component, coefficient=component.coefficient * float(step))] if Decimal(step) else [] for step in steps]
    zero = steps.index("0")
    margins = measure_margins(loaded, items, variants)
    changed = measure_margins(loaded, change_system(loaded, items, pairs), [variants[0], variants[zero], variants[-1]])
    proposed = format_decimal(Decimal(alpha))
    return DoseResponse(tuple(format_decimal(each) for each in alphas), proposed, unit, tuple(items), margins, changed)


def change_system(loaded: LoadedModel, items: Sequence[MarginItem], pairs: Sequence[ContrastPair]) -> tuple[MarginItem, ...]:
    """The same items asked under `CHANGED_SYSTEM`."""
    pair_of = {pair.id: pair for pair in pairs}
    asked = [_ask(pair_of[item.id]) for item in items]
    changed = put_under(loaded, asked, [CHANGED_SYSTEM] * len(asked))
    encoded = encode_prompts(loaded, changed, names=[item.id for item in items])
    return tuple(item.asked_by(prompt.token_ids) for item, prompt in zip(items, encoded, strict=True))


def _ask(pair: ContrastPair) -> tuple[Message, ...]:
    """The question that the margin's neutral prompt asks, without a system message and without the final answer."""
    turns = [message for message in pair.negative if message.role != "system"]
    return tuple(turns[:-1] if turns[-1].role == "assistant" else turns)


def rank_correlation(curves: Floats) -> Floats:
    """Spearman's ρ between α and each curve (rows, alphas) over a rising grid; 0 for one that does not move."""
    ranks = stats.rankdata(curves, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    order = np.arange(curves.shape[1]) - (curves.shape[1] - 1) / 2
    scale = np.sqrt((ranks**2).sum(axis=1) * (order**2).sum())
    correlations: Floats = np.divide(ranks @ order, scale, out=np.zeros(len(curves)), where=scale > 0)
    return correlations


def isotonic_r2(curves: Floats) -> Floats:
    """The share of each curve's variance (rows, alphas) that the best rising curve explains; 0 for one that does not move."""
    fitted = np.array([optimize.isotonic_regression(curve).x for curve in curves])
    total = ((curves - curves.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    missed = ((curves - fitted) ** 2).sum(axis=1)
    unexplained: Floats = np.divide(missed, total, out=np.ones(len(curves)), where=total > 0)
    return 1 - unexplained


def largest_adverse_step(curves: Floats) -> Floats:
    """The deepest fall of each curve (rows, alphas) from one α to the next, in its own units; 0 for one that never falls."""
    falls: Floats = -np.diff(curves, axis=1).min(axis=1)
    return falls.clip(min=0.0)


def monotone_range(alphas: Sequence[str], curve: Floats) -> tuple[str, str]:
    """The α around 0, as written, between which the curve never falls."""
    falls = [after < before for before, after in pairwise(curve)]
    low = high = list(alphas).index("0")
    while low > 0 and not falls[low - 1]:
        low -= 1
    while high < len(alphas) - 1 and not falls[high]:
        high += 1
    return alphas[low], alphas[high]
