"""Point estimates with 95 % intervals, clustered by item: bootstrap for means and ratios, Wilson for shares, exact for losses.

Items that share a template, or the answer they expect, succeed and fail together; they are one cluster and are drawn together.
Seeded, so that every interval repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from steernode.canonical import format_measure
from steernode.errors import EngineError
from steernode.power import CONFIDENCE, ONE_SIDED

RESAMPLES = 10_000
SEED = 0
RATIO_LIMIT = 100.0
METHODS = {
    "bca_bootstrap": f"BCa bootstrap over clusters, {RESAMPLES} resamples (Efron 1987)",
    "percentile_bootstrap": f"percentile bootstrap over clusters, {RESAMPLES} resamples; where BCa has no answer, and for quantiles",
    "draws": "median of the resamples, and their 5 and 95 % quantiles",
    "wilson": "Wilson score interval; its number of trials is the number of clusters",
    "exact_one_sided": "one-sided Clopper-Pearson bound of the share that was lost; gains are not set against losses",
    "tango": "one-sided 95 % score bounds of the net change of paired shares, either way (Tango 1998)",
    "welch": "Welch's t interval of the difference of two independent means",
    "fixed": "every item says the same, or the value is a reference and not measured",
}

Floats = npt.NDArray[np.float64]
Clusters = Sequence[str]
Statistic = Callable[[Floats], Floats]
_CHUNK = 4_000_000
_HALVINGS = 60
_REMEMBERED_CLUSTERS = 512


@dataclass(frozen=True)
class Estimate:
    """A value measured on `n` items in `clusters`, and the interval that holds the true one 95 times in 100."""

    n: int
    value: float
    low: float
    high: float
    method: str
    clusters: int

    def to_document(self) -> dict[str, Any]:
        numbers = {"value": measure(self.value), "low": measure(self.low), "high": measure(self.high)}
        return {"n": self.n, "clusters": self.clusters, **numbers, "method": self.method}


def measure(value: float) -> str:
    """Six significant digits, as a decimal string: more than any suite can resolve, and few enough to read."""
    return format_measure(value, significant_digits=6)


def bounds(name: str, estimate: Estimate) -> dict[str, str]:
    """The interval beside a value of this name, as a cell writes it."""
    return {f"{name}_low": measure(estimate.low), f"{name}_high": measure(estimate.high)}


# Of no item at all. No gate compares it.
NOTHING = Estimate(0, 0.0, 0.0, 0.0, "fixed", 0)


def reference(value: float, n: int) -> Estimate:
    """A value that the others are compared with and that nothing was measured for, such as a ratio to itself."""
    return Estimate(n, value, value, value, "fixed", n)


def estimate_mean(values: Floats, clusters: Clusters | None = None) -> Estimate:
    return _bootstrap((values, np.ones(len(values))), lambda sums: sums[:, 0] / sums[:, 1], clusters)


def estimate_difference(steered: Floats, baseline: Floats, clusters: Clusters | None = None) -> Estimate:
    """The mean change per item; row i of both is the same item."""
    refuse_uneven(steered, baseline)
    return estimate_mean(steered - baseline, clusters)


def estimate_perplexity(nats: Floats, tokens: Floats, clusters: Clusters | None = None) -> Estimate:
    return _bootstrap((nats, tokens), lambda sums: np.exp(sums[:, 0] / sums[:, 1]), clusters)


def estimate_perplexity_ratio(
    steered: tuple[Floats, Floats], baseline: tuple[Floats, Floats], clusters: Clusters | None = None
) -> Estimate:
    """Perplexity of the steered replies over that of the model's own; each is (nats, tokens) per item, items in the same order."""
    return _bootstrap((*steered, *baseline), lambda sums: np.exp(sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]), clusters)


def estimate_ratio(over: Floats, under: Floats, clusters: Clusters | None = None, *, undefined: float = 0.0) -> Estimate:
    """The mean of `over` as a part of the mean of `under`, items in the same order; limited to ±100.

    Where the mean of `under` is not positive there is nothing to be a part of, and the ratio is `undefined`: nothing, where it tells
    of something wanted, and `RATIO_LIMIT`, where of a cost.
    """

    def statistic(sums: Floats) -> Floats:
        defined = sums[:, 1] > 0
        ratio = np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), undefined), where=defined)
        return np.clip(ratio, -RATIO_LIMIT, RATIO_LIMIT)

    return _bootstrap((over, under), statistic, clusters)


def estimate_of_means(samples: Floats, statistic: Statistic, clusters: Clusters | None = None) -> Estimate:
    """A statistic of the means of several samples (samples, items), such as a curve; it maps means (rows, samples) to (rows,)."""
    refuse_bad(samples)
    with_counts = (*samples, np.ones(samples.shape[1]))
    return _bootstrap(with_counts, lambda sums: statistic(sums[:, :-1] / sums[:, -1:]), clusters)


def estimate_quantile(values: Floats, items: npt.NDArray[np.int_], quantile: float) -> Estimate:
    """A quantile over the pooled values (tokens) of all items; `items` says whose value each is, and items are resampled whole."""
    refuse_uneven(values, items)
    refuse_bad(values)
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    _, owner = np.unique(items[order], return_inverse=True)
    n = int(owner.max()) + 1
    value = float(np.quantile(values, quantile, method="inverted_cdf"))
    drawn = []
    for counts in _resamples(n):
        for start in range(0, len(counts), max(1, _CHUNK // len(values))):
            weights = counts[start : start + max(1, _CHUNK // len(values))][:, owner].astype(np.float64)
            reached = weights.cumsum(axis=1)
            drawn.append(ranked[(reached >= quantile * reached[:, -1:]).argmax(axis=1)])
    low, high = np.quantile(np.concatenate(drawn), _tails())
    return Estimate(n, value, float(low), float(high), "percentile_bootstrap", n)


def estimate_draws(drawn: Floats, n: int) -> Estimate:
    """The median of what resamples gave, and where 90 of 100 of them lie: each end is a one-sided bound at 95 %."""
    refuse_bad(drawn)
    low, middle, high = np.quantile(drawn, (1 - CONFIDENCE, 0.5, CONFIDENCE))
    return Estimate(n, float(middle), float(low), float(high), "draws", n)


def estimate_share(hits: Floats, clusters: Clusters | None = None) -> Estimate:
    """The share of ones among zeros and ones. Source: Wilson 1927; a cluster counts as one trial, with a part of a hit."""
    refuse_bad(hits)
    n, share = len(_cluster_sums((hits,), clusters)), float(hits.mean())
    z = float(special.ndtri(0.5 + CONFIDENCE / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At a share of exactly 0 or 1 the formula meets the end but for rounding.
    low, high = 0.0 if share == 0 else float(centre - reach), 1.0 if share == 1 else float(centre + reach)
    return Estimate(len(hits), share, low, high, "wilson", n)


def estimate_loss(lost: Floats, clusters: Clusters | None = None) -> Estimate:
    """The share of items that were right and are not any more, with its one-sided 95 % upper bound for non-inferiority.

    Exact (Clopper-Pearson) on the losses alone: sensible with none seen, where it is 1 - 0.05^(1/n), and never eased by gains,
    because a fact gained does not give back the one that was lost. The alternatives were a score interval of the net change,
    which lets gains pay for losses, and the bootstrap, which sees no risk where it saw no loss. A cluster is one trial that
    may be lost in part; a part varies less than a whole, so the bound errs to the safe side. Where nothing was right nothing is lost,
    and nothing is shown: the bound is 1.
    """
    if len(lost) == 0:
        return Estimate(0, 0.0, 0.0, 1.0, "exact_one_sided", 0)
    sums = _cluster_sums((lost, np.ones(len(lost))), clusters)
    losses, n = float((sums[:, 0] / sums[:, 1]).sum()), len(sums)
    high = 1.0 if losses >= n else float(stats.beta.ppf(CONFIDENCE, losses + 1, n - losses))
    return Estimate(len(lost), losses / n, 0.0, high, "exact_one_sided", n)


def estimate_net_loss(lost: Floats, gained: Floats, clusters: Clusters | None = None) -> Estimate:
    """The share of items that were lost minus that of those gained, row i of both being the same item; each end bounds one side at 95 %.

    Tango's score interval of paired shares (1998). The simpler one of Agresti and Min (2005), half an item added to each cell, claims too
    much where hardly anything changed: with nothing seen to change among 60 items it excludes a loss of 3 points that is there, in
    16 of 100 repetitions, where this one is within a point of its 5. A cluster is one trial that may be lost or gained in part; a part
    varies less than a whole, so the bound errs to the safe side. Where nothing was asked nothing is shown: the bound is 1.
    """
    if len(lost) == 0:
        return Estimate(0, 0.0, -1.0, 1.0, "tango", 0)
    sums = _cluster_sums((lost, gained, np.ones(len(lost))), clusters)
    down, up = (float((sums[:, column] / sums[:, 2]).sum()) for column in (0, 1))
    n = len(sums)
    return Estimate(len(lost), (down - up) / n, -_bound_net_loss(up, down, n), _bound_net_loss(down, up, n), "tango", n)


def _bound_net_loss(lost: float, gained: float, n: int) -> float:
    """The largest difference that the score test does not reject; `spare` is the least share of changes that goes with it."""

    def exceeds(difference: float) -> bool:
        linear = (2 * n - lost + gained) * difference - lost - gained
        spare = (sqrt(linear**2 + 8 * n * gained * difference * (1 - difference)) - linear) / (4 * n)
        variance = n * (2 * spare + difference * (1 - difference))
        return n * difference - lost + gained > ONE_SIDED * sqrt(max(variance, 0.0))

    low, high = (lost - gained) / n, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if exceeds(middle) else (middle, high)
    return high


def estimate_gap(one: tuple[float, float, int], other: tuple[float, float, int]) -> Estimate:
    """The mean of one independent sample minus that of another; each is (mean, standard deviation, n). Source: Welch 1947."""
    (mean, deviation, n), (other_mean, other_deviation, other_n) = one, other
    refuse_bad(np.array([mean, deviation, other_mean, other_deviation]))
    if min(n, other_n) < 2:
        raise EngineError("NOTHING_MEASURED", "a difference of two samples needs two items in each", str(min(n, other_n)))
    own, others = deviation**2 / n, other_deviation**2 / other_n
    gap, error = mean - other_mean, np.sqrt(own + others)
    if error == 0:
        return Estimate(n + other_n, gap, gap, gap, "fixed", n + other_n)
    freedom = (own + others) ** 2 / (own**2 / (n - 1) + others**2 / (other_n - 1))
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom) * error)
    return Estimate(n + other_n, gap, gap - reach, gap + reach, "welch", n + other_n)


def _bootstrap(samples: tuple[Floats, ...], statistic: Statistic, clusters: Clusters | None) -> Estimate:
    """A statistic of sums over items, `statistic` mapping (rows, samples) of sums to (rows,).

    scipy.stats.bootstrap gives the same interval; this one draws the same resamples for every metric and keeps only their
    sums, which makes 10,000 of them cost milliseconds.
    """
    sums = _cluster_sums(samples, clusters)
    n, items = len(sums), len(samples[0])
    value = float(statistic(sums.sum(axis=0)[None])[0])
    # Where every cluster says the same, resampling says nothing more.
    if n == 1 or all(np.ptp(column) == 0 for column in sums.T):
        return Estimate(items, value, value, value, "fixed", n)
    drawn = np.concatenate([statistic(counts @ sums) for counts in _resamples(n)])
    left_out = statistic(sums.sum(axis=0) - sums)
    ends = _accelerated_tails(value, drawn, left_out)
    method = "percentile_bootstrap" if ends is None else "bca_bootstrap"
    low, high = np.quantile(drawn, _tails() if ends is None else ends)
    return Estimate(items, value, float(low), float(high), method, n)


def _accelerated_tails(value: float, drawn: Floats, left_out: Floats) -> tuple[float, float] | None:
    """Which quantiles of the resamples bound the BCa interval; None where it is not defined, as when nearly all resamples agree."""
    share_below = float((drawn < value).mean() + (drawn == value).mean() / 2)
    spread = left_out.mean() - left_out
    squares = float((spread**2).sum())
    if not 0 < share_below < 1 or squares == 0:
        return None
    bias = special.ndtri(share_below)
    acceleration = float((spread**3).sum()) / (6 * squares**1.5)
    shifted = bias + special.ndtri(np.array(_tails()))
    low, high = special.ndtr(bias + shifted / (1 - acceleration * shifted))
    return (float(low), float(high)) if np.isfinite([low, high]).all() and low < high else None


def _tails() -> tuple[float, float]:
    return (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2


def _resamples(n: int) -> tuple[npt.NDArray[np.uint16], ...]:
    """How often each of n clusters is drawn: counts (resamples, n), in chunks."""
    return _remembered_resamples(n) if n <= _REMEMBERED_CLUSTERS else _draw_resamples(n)


@lru_cache(maxsize=8)
def _remembered_resamples(n: int) -> tuple[npt.NDArray[np.uint16], ...]:
    return _draw_resamples(n)


def _draw_resamples(n: int) -> tuple[npt.NDArray[np.uint16], ...]:
    rng = np.random.default_rng(SEED)
    rows = max(1, _CHUNK // n)
    evenly = np.full(n, 1 / n)
    return tuple(rng.multinomial(n, evenly, size=min(rows, RESAMPLES - start)).astype(np.uint16) for start in range(0, RESAMPLES, rows))


def _cluster_sums(samples: tuple[Floats, ...], clusters: Clusters | None) -> Floats:
    """Sums (clusters, samples), clusters by name so that the order of items does not show."""
    refuse_uneven(*samples)
    for sample in samples:
        refuse_bad(sample)
    stacked = np.stack(samples, axis=1).astype(np.float64)
    if clusters is None:
        return stacked
    refuse_uneven(samples[0], clusters)
    names, owner = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), stacked.shape[1]))
    np.add.at(sums, owner, stacked)
    return sums


def refuse_bad(values: npt.NDArray[Any]) -> None:
    """Raises: EngineError NOTHING_MEASURED without items, NON_FINITE naming the first item that is not a number."""
    if len(values) == 0:
        raise EngineError("NOTHING_MEASURED", "there are no items to estimate from")
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if len(bad):
        raise EngineError("NON_FINITE", f"the score of item {bad[0]} is not a finite number", str(bad[0]))


def refuse_uneven(*samples: Sequence[Any] | npt.NDArray[Any]) -> None:
    """Raises: EngineError LENGTHS_DIFFER if the samples do not have one value for each item."""
    lengths = [len(sample) for sample in samples]
    if len(set(lengths)) > 1:
        raise EngineError("LENGTHS_DIFFER", f"samples of the same items have {' and '.join(map(str, lengths))} values", str(lengths[1]))
