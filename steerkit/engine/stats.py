"""Point estimates with 95 % intervals: bootstrap over items for means and ratios, Wilson for shares. Seeded, so they repeat."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from steerkit.canonical import format_measure
from steerkit.errors import EngineError

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0
METHODS = {"means": f"BCa bootstrap over items, {RESAMPLES} resamples", "shares": "Wilson", "confidence": str(CONFIDENCE)}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value measured on `n` items, and the interval that holds the true one 95 times in 100."""

    n: int
    value: float
    low: float
    high: float

    def to_document(self) -> dict[str, Any]:
        return {"n": self.n, "value": measure(self.value), "low": measure(self.low), "high": measure(self.high)}


def measure(value: float) -> str:
    """Six significant digits, as a decimal string: more than any suite can resolve, and few enough to read."""
    return format_measure(value, significant_digits=6)


def estimate_mean(values: Floats) -> Estimate:
    return _bootstrap((values,), lambda sample, axis: np.mean(sample, axis=axis))


def estimate_difference(steered: Floats, baseline: Floats) -> Estimate:
    """The mean change per item; row i of both is the same item."""
    return estimate_mean(steered - baseline)


def estimate_share(hits: Floats) -> Estimate:
    """The share of ones among zeros and ones."""
    _refuse_empty(len(hits))
    interval = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(len(hits), float(hits.mean()), float(interval.low), float(interval.high))


def estimate_perplexity(nats: Floats, tokens: Floats) -> Estimate:
    def statistic(nats: Any, tokens: Any, axis: int) -> Any:
        return np.exp(nats.sum(axis=axis) / tokens.sum(axis=axis))

    return _bootstrap((nats, tokens), statistic)


def estimate_perplexity_ratio(steered: tuple[Floats, Floats], baseline: tuple[Floats, Floats]) -> Estimate:
    """Perplexity of the steered replies over that of the model's own; each is (nats, tokens) per item, items in the same order."""

    def statistic(nats: Any, tokens: Any, own_nats: Any, own_tokens: Any, axis: int) -> Any:
        return np.exp(nats.sum(axis=axis) / tokens.sum(axis=axis) - own_nats.sum(axis=axis) / own_tokens.sum(axis=axis))

    return _bootstrap((*steered, *baseline), statistic)


def _bootstrap(samples: tuple[Floats, ...], statistic: Callable[..., Any]) -> Estimate:
    n = len(samples[0])
    _refuse_empty(n)
    value = float(statistic(*samples, axis=-1))
    # Where every item says the same, resampling says nothing more.
    if n == 1 or all(np.ptp(sample) == 0 for sample in samples):
        return Estimate(n, value, value, value)
    low, high = _interval(samples, statistic, "BCa")
    # BCa has no answer when the statistic is the same on nearly every resample; the plain percentiles then are the interval.
    if not np.isfinite([low, high]).all():
        low, high = _interval(samples, statistic, "percentile")
    return Estimate(n, value, low, high)


def _interval(samples: tuple[Floats, ...], statistic: Callable[..., Any], method: str) -> tuple[float, float]:
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            samples,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method=method,
            rng=np.random.default_rng(SEED),
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _refuse_empty(n: int) -> None:
    if n == 0:
        raise EngineError("NOTHING_MEASURED", "there are no items to estimate from")
