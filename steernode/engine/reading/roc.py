"""ROC: how well a score tells two classes apart, and the threshold chosen on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steernode.canonical import format_measure
from steernode.errors import EngineError


@dataclass(frozen=True)
class RocPoint:
    """What firing at scores from `threshold` up does. Rates from 0 to 1."""

    threshold: float
    false_positive_rate: float
    true_positive_rate: float

    @property
    def youden_j(self) -> float:
        return self.true_positive_rate - self.false_positive_rate

    def to_document(self) -> dict[str, str]:
        return {name: format_measure(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Calibration:
    """The point chosen, the curve it was chosen from, highest threshold first, and the area under it.

    `target` is the false-positive rate that was asked for; None if the point has the best Youden J.
    """

    chosen: RocPoint
    curve: tuple[RocPoint, ...]
    auc: float
    positives: int
    negatives: int
    target: float | None

    @property
    def threshold(self) -> float:
        return self.chosen.threshold

    def to_document(self) -> dict[str, Any]:
        """Canonical: numbers are decimal strings."""
        return {
            "rule": "youden_j" if self.target is None else "false_positive_rate",
            "target_false_positive_rate": None if self.target is None else format_measure(self.target),
            "true_positive_rate": format_measure(self.chosen.true_positive_rate),
            "false_positive_rate": format_measure(self.chosen.false_positive_rate),
            "auc": format_measure(self.auc),
            "positives": self.positives,
            "negatives": self.negatives,
            "roc": [point.to_document() for point in self.curve],
        }


def calibrate(scores: NDArray[np.float64], labels: NDArray[np.int64], target_false_positive_rate: float | None) -> Calibration:
    """The threshold with the best Youden J or, given a target, with the most true positives whose false positives stay within it.

    Thresholds lie midway between neighbouring scores, so that rounding cannot move a prompt across. Of equals, the highest is
    taken: it fires least. Shapes: both (items,); labels 1 and 0.
    Raises: EngineError PROBE_TARGET if the target is no rate, or no threshold that fires at all keeps to it.
    """
    from sklearn.metrics import roc_auc_score

    target = target_false_positive_rate
    if target is not None and not 0 <= target < 1:
        raise EngineError("PROBE_TARGET", f"a target false-positive rate is from 0 up to 1, got {target!r}", str(target))
    distinct = np.unique(scores)[::-1]
    thresholds = [*((distinct[:-1] + distinct[1:]) / 2), distinct[-1] - 1.0]
    curve = tuple(_point(float(threshold), scores, labels) for threshold in thresholds)
    # max keeps the first of equals, and the curve starts at the highest threshold.
    if target is None:
        chosen = max(curve, key=lambda point: point.youden_j)
    else:
        within = [point for point in curve if point.false_positive_rate <= target and point.true_positive_rate > 0]
        if not within:
            raise EngineError(
                "PROBE_TARGET", f"no threshold fires on a positive and keeps to a false-positive rate of {target}", str(target)
            )
        chosen = max(within, key=lambda point: point.true_positive_rate)
    positives = int(labels.sum())
    return Calibration(chosen, curve, float(roc_auc_score(labels, scores)), positives, len(labels) - positives, target)


def _point(threshold: float, scores: NDArray[np.float64], labels: NDArray[np.int64]) -> RocPoint:
    fires = scores >= threshold
    return RocPoint(threshold, float(fires[labels == 0].mean()), float(fires[labels == 1].mean()))
