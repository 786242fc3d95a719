"""Gates: what a cell must keep, exactly as written, and the one choice they leave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerkit.engine.gates import DEFAULT_GATES, choose_cell, judge_gates
from steerkit.errors import AlphaError, EngineError

BASELINE = {
    "stage": "final", "layer": None, "layer_depth": "0", "alpha": "0", "behaviour": "1.5", "facts": "0.96", "refusals": "1",
    "perplexity_ratio": "1", "repetition": "0",
}  # fmt: skip


def cell(layer: int = 5, alpha: str = "0.5", **values: str) -> dict:
    good = {"behaviour": "4", "facts": "0.95", "refusals": "1", "perplexity_ratio": "1.05", "repetition": "0"}
    return {"stage": "final", "layer": layer, "layer_depth": str(layer / 8), "alpha": alpha, **good, **values}


def test_the_highest_behaviour_that_passes_is_chosen() -> None:
    cells = [BASELINE, cell(alpha="0.4", behaviour="3.5"), cell(alpha="0.5"), cell(alpha="0.6", behaviour="4.9", facts="0.5")]
    assert choose_cell(cells)["alpha"] == "0.5"


@pytest.mark.parametrize(
    ("values", "layer"),
    [
        ({"facts": "0.939"}, 5),
        ({"refusals": "0.979"}, 5),
        ({"perplexity_ratio": "1.1501"}, 5),
        ({"behaviour": "1.99"}, 5),
        ({}, 7),
    ],
)
def test_a_cell_that_breaks_one_gate_is_never_chosen(values: dict, layer: int) -> None:
    broken = cell(layer, alpha="0.6", **{"behaviour": "5", **values})
    assert choose_cell([BASELINE, broken, cell()])["alpha"] == "0.5"
    with pytest.raises(EngineError) as refused:
        choose_cell([BASELINE, broken])
    assert refused.value.code == "NO_CELL_PASSES"


def test_a_value_exactly_at_its_threshold_passes() -> None:
    edge = cell(facts="0.94", refusals="0.98", perplexity_ratio="1.15", behaviour="2")
    assert all(judged["verdict"] == "pass" for judged in judge_gates(DEFAULT_GATES, edge, BASELINE))


def test_the_refusal_names_each_gate_and_the_nearest_miss() -> None:
    cells = [BASELINE, cell(facts="0.9"), cell(alpha="0.6", facts="0.5", perplexity_ratio="1.4")]
    with pytest.raises(EngineError, match=r"facts min_difference -0\.02 stops 2, the nearest at -0\.06; perplexity_ratio .* stops 1"):
        choose_cell(cells)


def test_ties_go_to_fluency_then_to_the_smaller_coefficient_then_to_the_lower_layer() -> None:
    assert choose_cell([BASELINE, cell(5), cell(4, perplexity_ratio="1.04")])["layer"] == 4
    assert choose_cell([BASELINE, cell(5, "0.6"), cell(5, "-0.5"), cell(5, "0.4")])["alpha"] == "0.4"
    assert choose_cell([BASELINE, cell(5), cell(4)])["layer"] == 4


@given(st.permutations([cell(layer, alpha) for layer in (3, 4, 5) for alpha in ("0.4", "0.5")]))
def test_the_order_of_cells_does_not_show(cells: list[dict]) -> None:
    chosen = choose_cell([*cells, BASELINE])
    assert (chosen["layer"], chosen["alpha"]) == (3, "0.4")


def test_a_screened_cell_is_never_chosen() -> None:
    screened = cell(behaviour="5") | {"stage": "screen"}
    assert choose_cell([BASELINE, screened, cell()])["behaviour"] == "4"
    with pytest.raises(EngineError) as refused:
        choose_cell([BASELINE, screened])
    assert refused.value.code == "CELLS_MISSING"


@pytest.mark.parametrize(
    "gate",
    [
        {"metric": "charm", "kind": "min", "threshold": "1"},
        {"metric": "facts", "kind": "about", "threshold": "1"},
        {"metric": "facts", "kind": "min"},
        {"metric": "facts", "kind": "min", "threshold": "1", "unless": "friday"},
    ],
)
def test_a_gate_that_cannot_be_judged_is_refused(gate: dict) -> None:
    with pytest.raises(EngineError) as refused:
        judge_gates([gate], cell(), BASELINE)
    assert refused.value.code == "GATE_INVALID"


def test_a_threshold_must_be_a_plain_decimal() -> None:
    with pytest.raises(AlphaError):
        judge_gates([{"metric": "facts", "kind": "min", "threshold": "1e-3"}], cell(), BASELINE)
