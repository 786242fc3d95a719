"""Calibration: the search in log KL finds the α of a known curve, and says so when there is none."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
import torch

from steernode.canonical import canonical_json, parse_strict
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.measuring.forced import ForcedText, percentile_kl, score_forced
from steernode.engine.reading.directions import LayerDirection
from steernode.engine.searching.calibrate import MAX_EVALUATIONS, TOLERANCE, _search, calibrate_alpha, neutral_texts
from steernode.errors import SteerError
from tests.support.tiny_models import ask


def direction_of(loaded: LoadedModel, layer: int = 1, norm: float = 4.0, residual: float = 10.0) -> LayerDirection:
    vector = torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(5))
    return LayerDirection(layer, "resid_post", vector / vector.norm(), norm, residual, 10)


@pytest.fixture(scope="module")
def texts(llama: LoadedModel) -> list[ForcedText]:
    return neutral_texts(llama, [ask("late fee"), ask("refund now"), ask("card declined please")], max_new_tokens=6)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cap": "0"}, "CALIBRATION_TARGET"),
        ({"target": "0"}, "CALIBRATION_TARGET"),
        ({"target": "-1"}, "CALIBRATION_TARGET"),
        ({"cap": "much"}, "ALPHA_FORMAT"),
        ({"cap": "1001"}, "ALPHA_RANGE"),
        ({"scope": "somewhere"}, "SCOPE_UNKNOWN"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(llama: LoadedModel, texts: list, changes: dict, code: str) -> None:
    with pytest.raises(SteerError) as refused:
        calibrate_alpha(llama, direction_of(llama), texts, **{"cap": "4", **changes})
    assert refused.value.code == code


def test_calibrating_on_no_text_is_refused(llama: LoadedModel) -> None:
    with pytest.raises(SteerError) as refused:
        calibrate_alpha(llama, direction_of(llama), [], cap="1")
    assert refused.value.code == "FORCED_EMPTY"


@pytest.mark.parametrize(
    "curve",
    [
        lambda alpha: 0.3 * alpha**2,
        lambda alpha: 2e-3 * alpha**4,
        lambda alpha: 5 * alpha,
        lambda alpha: 8 * alpha**2 / (1 + alpha**2),
        lambda alpha: 0.01 * alpha**2 + max(0.0, alpha - 2) ** 3,
    ],
)
def test_the_search_finds_the_dose_of_a_known_curve(curve: Callable[[float], float]) -> None:
    path = _search(lambda alpha: curve(float(alpha)), 1.0, 0.5, Decimal("20"))
    assert len(path) <= MAX_EVALUATIONS
    assert path[-1][1] == pytest.approx(1.0, rel=2 * TOLERANCE)


def test_a_square_law_is_met_at_the_second_evaluation() -> None:
    path = _search(lambda alpha: 0.02 * float(alpha) ** 2, 1.0, 1.0, Decimal("50"))
    assert [alpha for alpha, _ in path] == ["1", "7.071"]


def test_the_search_never_goes_beyond_the_cap_and_ends_there() -> None:
    path = _search(lambda alpha: 1e-3 * abs(float(alpha)) ** 2, 1.0, 1.0, Decimal("-3.3333"))
    assert path[-1][0] == "-3.3333"
    assert all(-Decimal("3.3333") <= Decimal(alpha) < 0 for alpha, _ in path)


def test_a_divergence_that_does_not_respond_is_refused() -> None:
    with pytest.raises(SteerError) as refused:
        _search(lambda alpha: 0.0, 1.0, 1.0, Decimal("100"))
    assert refused.value.code == "KL_UNRESPONSIVE"


@pytest.mark.parametrize(("unit", "cap"), [("mean_difference", "10"), ("residual", "4"), ("absolute", "-40")])
def test_the_calibrated_dose_has_the_divergence_it_promises(llama: LoadedModel, texts: list, unit: str, cap: str) -> None:
    direction = direction_of(llama)
    found = calibrate_alpha(llama, direction, texts, cap=cap, target="0.5", unit=unit)
    assert found.reached
    assert len(found.path) <= MAX_EVALUATIONS
    factor = {"mean_difference": 4.0, "residual": 10.0, "absolute": 1.0}[unit]
    coefficient = float(found.alpha) * factor
    scores = score_forced(llama, texts, [[Component(direction.direction, 1, coefficient)]])
    assert percentile_kl(scores.kl, 0) == pytest.approx(0.5, rel=2 * TOLERANCE)
    assert float(found.residual_fraction) == pytest.approx(coefficient / 10.0, rel=1e-3)
    assert (float(found.alpha) < 0) == cap.startswith("-")


def test_a_cap_that_binds_is_reported_and_not_passed_off_as_the_target(llama: LoadedModel, texts: list) -> None:
    found = calibrate_alpha(llama, direction_of(llama), texts, cap="0.05", target="2")
    assert (found.alpha, found.reached) == ("0.05", False)
    document = found.to_document()
    assert parse_strict(canonical_json(document)) == document
