"""How well a score ranks one class above another, with an interval that also stands where not one pair is out of order."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from steernode.engine.measuring.stats import Estimate, Floats
from steernode.power import CONFIDENCE

_APART = 1e-9


def estimate_auc(scores: Floats, labels: NDArray[np.int64] | Floats) -> Estimate:
    """The area under the ROC curve: how often a positive scores above a negative, ties by half. Both (items,), labels 1 and 0.

    Formula: score interval by the variance of Hanley and McNeil (1982) at the bound itself, of an exponential model.
    Source: Newcombe (2006), method 5. With the AUC at 1 the low end still says how few items there were.
    """
    positives, negatives = scores[labels == 1], scores[labels == 0]
    m, n = len(positives), len(negatives)
    # Ranks of positives among negatives, without the m × n table.
    ranked = np.sort(negatives)
    wins = np.searchsorted(ranked, positives, "left") + np.searchsorted(ranked, positives, "right")
    value = float(wins.sum()) / (2 * m * n)
    z, typical = float(special.ndtri(0.5 + CONFIDENCE / 2)), (m + n) / 2 - 1

    def reach(area: float) -> float:
        spread = 1 + typical * (1 - area) / (2 - area) + typical * area / (1 + area)
        return z * sqrt(area * (1 - area) * spread / (m * n))

    # At the ends the formula also holds for the value itself, which is no bound.
    low = 0.0 if value == 0 else float(optimize.brentq(lambda area: value - area - reach(area), 0, value - _APART))
    high = 1.0 if value == 1 else float(optimize.brentq(lambda area: area - value - reach(area), value + _APART, 1))
    return Estimate(m + n, value, low, high, "newcombe_auc", m + n)
