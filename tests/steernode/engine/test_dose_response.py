"""Dose-response: planted curves give the numbers that their makers know, and real margins go through the same way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from steernode.canonical import canonical_json
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.judging.doseresponse import (
    CHANGED_SYSTEM,
    STEPS,
    DoseResponse,
    change_system,
    isotonic_r2,
    largest_adverse_step,
    measure_dose_response,
    monotone_range,
    rank_correlation,
)
from steernode.engine.measuring.margins import MarginItem, margin_items, measure_margins
from steernode.errors import EngineError
from tests.support.tiny_models import make_answered_pair, make_pairs

ALPHAS = ("-1", "-0.5", "0", "0.5", "1")


def planted(slopes: list[float], noise: float = 0.0, changed: float = 1.0) -> DoseResponse:
    """Items whose margin rises by a known slope; under the changed system message by `changed` times as much."""
    items = tuple(
        MarginItem(f"item-{index}", (1,), (2,), (3,), ("en-GB", "en-US")[index % 2], "billing", f"item-{index}")
        for index in range(len(slopes))
    )
    grid = np.array([float(alpha) for alpha in ALPHAS])
    margins = grid[:, None] * np.array(slopes) + 7 + noise * np.random.default_rng(1).normal(size=(5, len(slopes)))
    return DoseResponse(ALPHAS, "1", "mean_difference", items, margins, changed * margins[[0, 2, 4]])


def test_planted_slopes_are_read_back_with_their_share_of_anti_steerable_items() -> None:
    dose = planted([2.0] * 18 + [-1.0] * 2)
    assert dose.slopes == pytest.approx([2.0] * 18 + [-1.0] * 2)
    assert dose.slope.value == pytest.approx(1.7)
    assert dose.slope.low < 1.7 < dose.slope.high
    wilson = stats.binomtest(2, 20).proportion_ci(0.95, method="wilson")
    assert (dose.anti_steerable.value, dose.anti_steerable.high) == pytest.approx((0.1, wilson.high))


def test_an_average_that_rises_hides_the_items_that_fall() -> None:
    assert planted([5.0] * 60 + [-1.0] * 40).slope.low > 0
    assert planted([5.0] * 60 + [-1.0] * 40).anti_steerable.high > 0.4


def test_the_slope_under_a_changed_prompt_is_told_as_a_part_of_the_slope() -> None:
    ratio = planted([1.0, 2.0, 3.0, 2.5], changed=0.4).ood_ratio
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.4, 0.4, 0.4))
    assert planted([-1.0, -2.0]).ood_ratio.value == 0


def test_slopes_are_split_by_locale_and_product() -> None:
    document = planted([1.0, 3.0] * 10).to_document()
    assert document["slope_by_locale"]["en-GB"]["value"] == "1"
    assert document["slope_by_locale"]["en-US"]["value"] == "3"
    assert document["slope_by_product"]["billing"]["value"] == "2"


def test_adjusted_p_values_are_small_where_something_moves_and_not_where_nothing_does() -> None:
    moved = planted([1.0] * 20, noise=0.1).to_document()["curve"]
    assert all(float(point["adjusted_p"]) < 0.01 for point in moved if point["alpha"] != "0")
    assert "adjusted_p" not in moved[2]
    still = planted([0.0] * 20, noise=0.1).to_document()["curve"]
    assert min(float(point["adjusted_p"]) for point in still if point["alpha"] != "0") > 0.05


def test_the_document_is_canonical() -> None:
    assert canonical_json(planted([1.0, 2.0, 4.0], noise=0.3).to_document())


def test_curve_statistics_agree_with_scipy_and_scikit_learn() -> None:
    curves = np.random.default_rng(3).normal(size=(50, 7)).cumsum(axis=1)
    grid = np.arange(7)
    fits = [IsotonicRegression().fit(grid, curve).score(grid, curve) for curve in curves]
    assert isotonic_r2(curves) == pytest.approx(fits)
    assert rank_correlation(curves) == pytest.approx([stats.spearmanr(grid, curve).statistic for curve in curves])


def test_a_curve_that_turns_around_says_where_and_how_deep() -> None:
    curve = np.array([0.0, 1.0, 2.0, 5.0, 4.0])
    assert largest_adverse_step(curve[None]).tolist() == [1.0]
    assert largest_adverse_step(np.arange(5.0)[None]).tolist() == [0.0]
    assert monotone_range(ALPHAS, curve) == ("-1", "0.5")
    assert monotone_range(ALPHAS, -curve) == ("0", "0")


def test_a_curve_that_does_not_move_has_no_rank_and_no_fit() -> None:
    flat = np.ones((1, 5))
    assert (rank_correlation(flat)[0], isotonic_r2(flat)[0], largest_adverse_step(flat)[0]) == (0, 0, 0)


def component(loaded: LoadedModel, **changes: object) -> Component:
    direction = torch.nn.functional.normalize(torch.arange(1.0, loaded.d_model + 1), dim=0)
    return replace(Component(direction, 1, 0.5), **changes)


@pytest.mark.parametrize(("alpha", "coefficient"), [("0.5", 2.0), ("-0.5", -2.0)])
def test_the_grid_is_symmetric_and_each_row_is_the_margin_at_its_alpha(llama: LoadedModel, alpha: str, coefficient: float) -> None:
    pairs = [make_answered_pair(f"pair-{index}", f"late fee {index}") for index in range(3)]
    items = margin_items(llama, pairs)
    candidate = component(llama, coefficient=coefficient)
    dose = measure_dose_response(llama, candidate, alpha, "absolute", items, pairs)
    assert len(dose.alphas) == len(STEPS)
    assert [float(each) for each in dose.alphas] == sorted(float(each) for each in dose.alphas)
    at_alpha = measure_margins(llama, items, [[candidate], []])
    assert dose.margins[dose.alphas.index(alpha)] == pytest.approx(at_alpha[0], abs=1e-3)
    assert dose.margins[dose.alphas.index("0")] == pytest.approx(at_alpha[1], abs=1e-3)


def test_an_operator_with_a_strength_has_no_far_side_of_zero(llama: LoadedModel) -> None:
    pairs = [make_answered_pair(f"pair-{index}", f"late fee {index}") for index in range(2)]
    dose = measure_dose_response(
        llama, component(llama, coefficient=1.0, operator="ablate"), "1", "absolute", margin_items(llama, pairs), pairs
    )
    assert dose.alphas[0] == "0"


def test_the_changed_system_message_replaces_the_pair_s_own(llama: LoadedModel) -> None:
    pairs = make_pairs(4)
    items = margin_items(llama, pairs, max_new_tokens=4)
    changed = change_system(llama, items, pairs)
    assert all(CHANGED_SYSTEM in llama.tokenizer.decode(item.prompt) for item in changed)
    assert not any("cold" in llama.tokenizer.decode(item.prompt) for item in changed)
    assert [item.positive for item in changed] == [item.positive for item in items]


def test_no_steering_has_no_dose_response(llama: LoadedModel) -> None:
    with pytest.raises(EngineError) as refused:
        measure_dose_response(llama, component(llama), "0", "absolute", [], [])
    assert refused.value.code == "ALPHA_ZERO"
