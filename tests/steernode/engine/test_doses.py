"""Each layer's own grid: where the divergence is what was aimed at, so that layers are compared at one dose."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from steernode.canonical import canonical_json, format_decimal, parse_strict
from steernode.engine.access.models import LoadedModel
from steernode.engine.measuring.items import EvalItems
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.engine.searching.calibrate import Calibration, calibrate_alpha, calibrate_layers, neutral_texts
from steernode.engine.searching.doses import KL_TARGETS, Dose, find_grids, lay_grid, refine_doses
from steernode.engine.searching.recipe import SweepRecipe
from steernode.errors import EngineError
from steernode.files.suites import SuiteItem
from tests.support.tiny_models import ask, make_pairs

AUTO = SweepRecipe(alphas="auto")


def calibrated(*path: tuple[str, str], reached: bool = True) -> Calibration:
    alpha, kl = path[-1]
    return Calibration(alpha, "mean_difference", "0.1", kl, "1", reached, path)


def make_item(name: str) -> SuiteItem:
    return SuiteItem(name, "select", tuple(ask(f"{name} please")), {}, "en-US", "b", "0" * 64)


@pytest.fixture(scope="module")
def directions(llama: LoadedModel) -> tuple[LayerDirection, ...]:
    return extract_directions(llama, make_pairs(4))


def test_where_the_divergence_grows_with_the_square_of_alpha_the_grid_does_with_its_root() -> None:
    doses = lay_grid(calibrated(("0.5", "0.25"), ("1", "1")))
    assert [dose.target_kl for dose in doses] == list(KL_TARGETS)
    assert [float(dose.alpha) for dose in doses] == pytest.approx([float(target) ** 0.5 for target in KL_TARGETS], rel=0.01)


def test_a_layer_that_bends_has_its_doses_where_it_was_seen_to() -> None:
    # From 0.1 to 1 nat by the fourth power.
    doses = {dose.target_kl: float(dose.alpha) for dose in lay_grid(calibrated(("1", "0.1"), ("1.7783", "1")))}
    assert doses["0.1"] == pytest.approx(1, rel=0.01)
    assert doses["0.35"] == pytest.approx(3.5**0.25, rel=0.01)


def test_no_dose_goes_beyond_the_cap_and_the_cap_is_the_last() -> None:
    doses = lay_grid(calibrated(("1", "0.05"), ("2", "0.2"), reached=False))
    assert [dose.alpha for dose in doses] == ["1", "1.41", "2"]
    # As good as reached, right at the cap.
    assert lay_grid(calibrated(("1", "0.25"), ("2", "0.97")))[-1] == Dose("2", "1")


def test_negative_doses_keep_their_sign() -> None:
    assert all(dose.alpha.startswith("-") for dose in lay_grid(calibrated(("-0.5", "0.25"), ("-1", "1"))))


def test_layers_calibrated_together_have_what_each_has_alone(llama: LoadedModel, directions: tuple) -> None:
    texts = neutral_texts(llama, [ask("late fee"), ask("refund now")], max_new_tokens=4)
    together = calibrate_layers(llama, directions, texts, cap="2", target="0.01")
    for direction in directions:
        alone = calibrate_alpha(llama, direction, texts, cap="2", target="0.01")
        assert float(together[direction.layer].alpha) == pytest.approx(float(alone.alpha), rel=1e-3)


def test_a_layer_that_nothing_moves_has_no_grid_and_is_named(llama: LoadedModel, directions: tuple) -> None:
    still = replace(directions[1], norm=1e-9)
    items = EvalItems(*((make_item(name),) for name in ("ticket", "fact", "request")))
    grids, document = find_grids(llama, [directions[0], still, directions[2]], items, AUTO)
    assert set(grids) == {0, 2}
    assert document["unmoved"] == [1]
    assert parse_strict(canonical_json(document)) == document
    assert set(document["layers"]) == {"0", "2"}
    with pytest.raises(EngineError) as refused:
        find_grids(llama, [still], items, AUTO)
    assert refused.value.code == "KL_UNRESPONSIVE"


def test_grids_keep_to_the_cap_that_they_are_given(llama: LoadedModel, directions: tuple) -> None:
    items = EvalItems(*((make_item(name),) for name in ("ticket", "fact", "request")))
    free, _ = find_grids(llama, directions[:1], items, AUTO)
    cap = format_decimal(Decimal(free[0][-1].alpha) / 2)
    grids, document = find_grids(llama, directions[:1], items, AUTO, cap=cap)
    assert max(abs(Decimal(dose.alpha)) for dose in grids[0]) <= Decimal(cap)
    assert document["cap"] == cap


def test_the_dose_half_way_is_half_way_in_what_it_is_meant_to_reach() -> None:
    def cell(layer: int | None, alpha: str, behaviour: str) -> dict[str, str | int | None]:
        return {"stage": "final", "layer": layer, "alpha": alpha, "behaviour": behaviour}

    grid = [Dose("0.5", "0.25"), Dose("1", "1")]
    cells = [cell(None, "0", "1"), cell(3, "0.5", "2"), cell(3, "1", "3")]
    assert refine_doses(cells, 3, grid, ()) == [Dose("0.75", "0.562")]
    cells[1]["behaviour"] = "4"
    assert refine_doses(cells, 3, grid, ()) == [Dose("0.25", "0.0625"), Dose("0.75", "0.562")]
