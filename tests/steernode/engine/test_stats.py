"""Intervals and bounds: against closed forms, against SciPy, and against truth that was planted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from steernode.engine.measuring.hypotheses import adjust_p_values
from steernode.engine.measuring.stats import (
    RATIO_LIMIT,
    estimate_difference,
    estimate_gap,
    estimate_loss,
    estimate_mean,
    estimate_net_loss,
    estimate_perplexity_ratio,
    estimate_quantile,
    estimate_ratio,
    estimate_share,
)
from steernode.errors import EngineError

NONE = np.zeros(0)


@pytest.mark.parametrize(
    "measure",
    [
        lambda: estimate_mean(NONE),
        lambda: estimate_share(NONE),
        lambda: estimate_quantile(NONE, np.zeros(0, np.int_), 0.95),
        lambda: adjust_p_values(np.zeros((3, 0))),
        lambda: adjust_p_values(np.zeros((0, 3))),
        lambda: estimate_gap((1.0, 1.0, 1), (1.0, 1.0, 9)),
    ],
)
def test_nothing_measured_is_refused(measure: object) -> None:
    with pytest.raises(EngineError) as refused:
        measure()
    assert refused.value.code == "NOTHING_MEASURED"


@pytest.mark.parametrize(
    "measure",
    [
        lambda: estimate_difference(np.ones(3), np.ones(4)),
        lambda: estimate_mean(np.ones(3), clusters=["a", "b"]),
        lambda: estimate_perplexity_ratio((np.ones(3), np.ones(3)), (np.ones(3), np.ones(2))),
        lambda: adjust_p_values(np.ones((2, 3)), clusters=["a"]),
    ],
)
def test_samples_of_unequal_lengths_are_refused(measure: object) -> None:
    with pytest.raises(EngineError) as refused:
        measure()
    assert refused.value.code == "LENGTHS_DIFFER"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_not_a_number_is_refused_by_its_item(bad: float) -> None:
    scores = np.array([1.0, 2.0, bad, 3.0])
    for measure in (estimate_mean, estimate_share, estimate_loss, lambda values: adjust_p_values(np.stack([values, values]))):
        with pytest.raises(EngineError) as refused:
            measure(scores)
        assert refused.value.code == "NON_FINITE"
    with pytest.raises(EngineError, match="item 2"):
        estimate_mean(scores)


def test_the_bca_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).exponential(1.0, 60)
    ours = estimate_mean(values)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(5)).confidence_interval
    assert ours.method == "bca_bootstrap"
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)


def test_a_ratio_of_sums_has_the_interval_that_scipy_gives_it() -> None:
    rng = np.random.default_rng(4)
    over, under = rng.normal(1.0, 0.5, 80), rng.normal(2.0, 0.5, 80)
    ours = estimate_ratio(over, under)

    def ratio(over: np.ndarray, under: np.ndarray, axis: int) -> np.ndarray:
        return over.sum(axis=axis) / under.sum(axis=axis)

    theirs = stats.bootstrap((over, under), ratio, paired=True, n_resamples=20_000, rng=np.random.default_rng(5)).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_a_clustered_interval_covers_the_truth_where_an_unclustered_one_does_not() -> None:
    rng = np.random.default_rng(11)
    names = [str(index // 8) for index in range(240)]
    covered = {"clustered": 0, "by item": 0}
    for _ in range(200):
        values = np.repeat(rng.normal(0.0, 1.0, 30), 8) + rng.normal(0.0, 0.5, 240)
        for name, estimate in (("clustered", estimate_mean(values, names)), ("by item", estimate_mean(values))):
            covered[name] += estimate.low <= 0.0 <= estimate.high
    assert 180 <= covered["clustered"] <= 200
    assert covered["by item"] < 150


def test_the_order_of_clusters_does_not_show() -> None:
    rng = np.random.default_rng(2)
    values, names = rng.normal(size=40), [f"item-{index % 13}" for index in range(40)]
    order = rng.permutation(40)
    one, two = estimate_mean(values, names), estimate_mean(values[order], [names[index] for index in order])
    assert (one.low, one.value, one.high) == pytest.approx((two.low, two.value, two.high), rel=1e-9)
    assert (one.n, one.clusters) == (40, 13)


@pytest.mark.parametrize(("hits", "n"), [(0, 36), (20, 200), (12, 12), (7, 19)])
def test_the_wilson_interval_is_that_of_scipy(hits: int, n: int) -> None:
    ours = estimate_share(np.array([1.0] * hits + [0.0] * (n - hits)))
    theirs = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_ten_percent_of_two_hundred_is_under_fifteen_with_certainty() -> None:
    assert estimate_share(np.array([1.0] * 20 + [0.0] * 180)).high == pytest.approx(0.149, abs=5e-4)


def test_a_share_of_repeated_items_is_as_uncertain_as_its_clusters() -> None:
    hits = np.repeat([1.0, 0.0, 0.0, 0.0], 9)
    clustered = estimate_share(hits, [str(index // 9) for index in range(36)])
    theirs = stats.binomtest(1, 4).proportion_ci(0.95, method="wilson")
    assert (clustered.value, clustered.low, clustered.high) == pytest.approx((0.25, theirs.low, theirs.high))


@pytest.mark.parametrize(("lost", "n"), [(0, 36), (1, 76), (5, 40)])
def test_the_bound_of_a_loss_is_the_exact_one_of_scipy(lost: int, n: int) -> None:
    ours = estimate_loss(np.array([1.0] * lost + [0.0] * (n - lost)))
    theirs = stats.binomtest(lost, n, alternative="less").proportion_ci(0.95, method="exact")
    assert ours.high == pytest.approx(theirs.high)
    assert (ours.low, ours.value) == (0, lost / n)


def test_without_a_loss_the_bound_is_that_of_the_rule_of_three() -> None:
    assert estimate_loss(np.zeros(76)).high == pytest.approx(1 - 0.05 ** (1 / 76))
    assert estimate_loss(np.zeros(76), [str(index // 2) for index in range(76)]).high == pytest.approx(1 - 0.05 ** (1 / 38))
    assert estimate_loss(np.ones(4)).high == 1.0
    # Where nothing could be lost, nothing is shown.
    assert (estimate_loss(NONE).value, estimate_loss(NONE).high, estimate_loss(NONE).clusters) == (0.0, 1.0, 0)


@pytest.mark.parametrize(("lost", "gained", "n"), [(0, 0, 98), (3, 1, 98), (1, 3, 98), (5, 5, 40), (0, 9, 40), (7, 0, 30)])
def test_a_net_loss_is_bounded_where_tangos_score_test_rejects(lost: int, gained: int, n: int) -> None:
    down, up = np.zeros(n), np.zeros(n)
    down[:lost], up[lost : lost + gained] = 1, 1
    found = estimate_net_loss(down, up)
    assert (found.value, found.method) == (pytest.approx((lost - gained) / n), "tango")
    # The share of gains that is likeliest beside this difference, looked for here among all that there are.
    gains = np.linspace(0, 1, 200_001)
    losses = gains + found.high
    with np.errstate(divide="ignore", invalid="ignore"):
        likely = special.xlogy(lost, losses) + special.xlogy(gained, gains) + special.xlogy(n - lost - gained, 1 - losses - gains)
    best = gains[np.nanargmax(np.where((losses >= 0) & (losses + gains < 1), likely, -np.inf))]
    score = (lost - gained - n * found.high) / np.sqrt(n * (2 * best + found.high - found.high**2))
    assert score == pytest.approx(-special.ndtri(0.95), abs=2e-3)
    # Turned round, the other end is the bound; two replies to one item are one trial.
    assert estimate_net_loss(up, down).low == pytest.approx(-found.high)
    twice = estimate_net_loss(np.repeat(down, 2), np.repeat(up, 2), [str(row // 2) for row in range(2 * n)])
    assert (twice.clusters, twice.high) == (n, pytest.approx(found.high))


def test_nothing_asked_shows_no_net_loss_and_everything_lost_all_of_it() -> None:
    assert (estimate_net_loss(NONE, NONE).high, estimate_net_loss(NONE, NONE).clusters) == (1.0, 0)
    assert estimate_net_loss(np.ones(9), np.zeros(9)).high == pytest.approx(1.0)


@pytest.mark.parametrize(("lost", "gained", "n"), [(0.03, 0.0, 60), (0.06, 0.03, 60), (0.05, 0.0, 120), (0.2, 0.1, 120)])
def test_the_bound_of_a_net_loss_holds_in_nearly_nineteen_of_twenty_repetitions(lost: float, gained: float, n: int) -> None:
    rng = np.random.default_rng(7)
    changes = rng.choice([1, -1, 0], size=(1500, n), p=[lost, gained, 1 - lost - gained])
    holds = [estimate_net_loss((row > 0).astype(float), (row < 0).astype(float)).high >= lost - gained for row in changes]
    assert np.mean(holds) >= 0.93


def test_the_bound_of_a_loss_holds_in_nineteen_of_twenty_repetitions_even_with_clusters() -> None:
    rng = np.random.default_rng(5)
    names = [str(index // 4) for index in range(160)]
    held = 0
    for _ in range(400):
        # Items of a cluster are lost together half of the time: 5 % of all items are lost.
        together, alone = rng.random(40) < 0.05, rng.random(160) < 0.05
        shared = np.repeat(rng.random(40) < 0.5, 4)
        lost = np.where(shared, np.repeat(together, 4), alone).astype(np.float64)
        held += estimate_loss(lost, names).high >= 0.05
    assert held >= 375


def test_the_gap_of_two_samples_has_the_welch_interval_of_scipy() -> None:
    rng = np.random.default_rng(8)
    select, test = rng.normal(1.2, 1.0, 50), rng.normal(1.0, 2.0, 70)
    ours = estimate_gap(*((sample.mean(), sample.std(ddof=1), len(sample)) for sample in (select, test)))
    theirs = stats.ttest_ind(select, test, equal_var=False).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_the_winner_of_many_equal_cells_shrinks_on_the_test_split() -> None:
    rng = np.random.default_rng(9)
    gaps = []
    for _ in range(100):
        select, test = rng.normal(0.0, 1.0, (30, 40)), rng.normal(0.0, 1.0, (30, 40))
        best = select.mean(axis=1).argmax()
        gaps.append(estimate_gap(*((sample[best].mean(), sample[best].std(ddof=1), 40) for sample in (select, test))).value)
    # The highest of 30 standard normal means of 40 is expected at 2.04 / sqrt(40).
    assert np.mean(gaps) == pytest.approx(2.04 / math.sqrt(40), abs=0.06)


def test_a_quantile_over_tokens_resamples_whole_items() -> None:
    rng = np.random.default_rng(6)
    items = np.repeat(np.arange(50), 20)
    tokens = np.repeat(rng.exponential(1.0, 50), 20)
    estimate = estimate_quantile(tokens, items, 0.95)
    assert estimate.n == 50
    assert estimate.low < estimate.value <= estimate.high
    as_if_alone = estimate_quantile(tokens, np.arange(1000), 0.95)
    assert as_if_alone.high - as_if_alone.low < 0.7 * (estimate.high - estimate.low)


def test_a_ratio_to_nothing_is_zero_and_to_next_to_nothing_is_limited() -> None:
    assert estimate_ratio(np.ones(9), np.full(9, -1.0)).value == 0
    assert estimate_ratio(np.ones(9), np.full(9, 1e-9)).value == 100


def test_a_cost_beside_nothing_is_the_greatest_there_is() -> None:
    cost = estimate_ratio(np.full(9, 3.0), np.zeros(9), undefined=RATIO_LIMIT)
    assert (cost.value, cost.high) == (RATIO_LIMIT, RATIO_LIMIT)
    # One item in nine moves: a third of the resamples see nothing to be a part of.
    assert estimate_ratio(np.full(9, 0.1), np.eye(9)[0], undefined=RATIO_LIMIT).high == RATIO_LIMIT


def test_the_adjusted_p_value_of_one_cell_is_the_permutation_test_of_scipy() -> None:
    shifts = np.random.default_rng(12).normal(0.4, 1.0, 11)
    theirs = stats.permutation_test(
        (shifts,), lambda sample, axis: sample.mean(axis=axis), permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert adjust_p_values(shifts[None])[0] == pytest.approx(theirs.pvalue)


def test_a_grid_without_effect_is_found_significant_in_one_of_twenty() -> None:
    rng = np.random.default_rng(13)
    found = unadjusted = 0
    for _ in range(200):
        # Neighbouring cells of a grid are alike, as one α is like the next.
        shifts = np.cumsum(rng.normal(size=(16, 24)), axis=0) / np.sqrt(np.arange(1, 17))[:, None]
        found += adjust_p_values(shifts).min() <= 0.05
        unadjusted += min(stats.ttest_1samp(shifts, 0.0, axis=1, alternative="greater").pvalue) <= 0.05
    assert 3 <= found <= 19
    assert unadjusted > 25


def test_the_cell_with_a_planted_effect_stands_out_and_the_others_do_not() -> None:
    shifts = np.random.default_rng(14).normal(size=(20, 64))
    shifts[7] += 1.0
    adjusted = adjust_p_values(shifts)
    assert adjusted[7] <= 0.001
    assert np.delete(adjusted, 7).min() > 0.05


def test_clusters_that_flip_together_count_once() -> None:
    shifts = np.repeat(np.array([[1.0, 1.2, 0.8, 1.1]]), 10, axis=1)
    names = [str(index // 10) for index in range(40)]
    assert adjust_p_values(shifts)[0] < 1e-3
    assert adjust_p_values(shifts, names)[0] == pytest.approx(1 / 16)
