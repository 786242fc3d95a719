"""Gates: what a cell must keep, exactly as written, and the one choice they leave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steernode.engine.measuring.gates import (
    DEFAULT_GATES,
    choose_cell,
    judge_evidence,
    judge_gates,
    judge_whole,
    refuse_unmeasurable,
)
from steernode.errors import AlphaError, EngineError, GateError
from steernode.gates import METRICS, gate_sets, load_gates

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


def test_a_last_tenth_of_a_point_is_not_bought_with_fluency() -> None:
    gentle, strong = cell(5, "0.3", behaviour="3.95"), cell(5, "0.35", behaviour="4.04", perplexity_ratio="1.09")
    assert choose_cell([BASELINE, gentle, strong])["alpha"] == "0.3"
    assert choose_cell([BASELINE, gentle, strong | {"behaviour": "4.06"}])["alpha"] == "0.35"


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
def test_a_gate_that_nobody_can_judge_is_refused(gate: dict) -> None:
    for judge in (lambda: judge_gates([gate], cell(), BASELINE), lambda: judge_evidence([gate], {}), lambda: load_gates([gate])):
        with pytest.raises(GateError) as refused:
            judge()
        assert refused.value.code == "GATE_INVALID"


def test_a_threshold_must_be_a_plain_decimal() -> None:
    with pytest.raises(AlphaError):
        judge_gates([{"metric": "facts", "kind": "min", "threshold": "1e-3"}], cell(), BASELINE)


def estimate(value: str, low: str, high: str, method: str = "bca_bootstrap", clusters: int = 36) -> dict:
    return {"n": clusters, "clusters": clusters, "value": value, "low": low, "high": high, "method": method}


def gate(metric: str, kind: str, threshold: str) -> dict[str, str]:
    return {"metric": metric, "kind": kind, "threshold": threshold}


@pytest.mark.parametrize(
    ("kind", "threshold", "compared", "verdict"),
    [
        ("min", "2", "2", "pass"),
        ("above", "2", "2", "fail"),
        ("max", "2", "2", "pass"),
        ("below", "2", "2", "fail"),
        ("max_ratio", "1.9", "2", "fail"),
        ("min_low", "1", "1", "pass"),
        ("min_low", "1.01", "1", "fail"),
        ("above_low", "1", "1", "fail"),
        ("above_low", "0.99", "1", "pass"),
        ("max_high", "3", "3", "pass"),
        ("max_high", "2.99", "3", "fail"),
        ("below_high", "3", "3", "fail"),
        ("min_difference", "0.5", "0.5", "pass"),
        ("max_difference", "0.4", "0.5", "fail"),
        ("min_difference_low", "0.2", "0.2", "pass"),
        ("min_difference_low", "0.3", "0.2", "fail"),
        ("max_difference_high", "0.8", "0.8", "pass"),
        ("max_difference_high", "0.7", "0.8", "fail"),
    ],
)
def test_each_kind_compares_the_number_that_it_names(kind: str, threshold: str, compared: str, verdict: str) -> None:
    metrics = {"behaviour": {"steered": estimate("2", "1", "3"), "difference": estimate("0.5", "0.2", "0.8")}}
    [judged] = judge_evidence([gate("behaviour", kind, threshold)], metrics)
    assert (judged["value"], judged["verdict"]) == (compared, verdict)
    assert ("point" in judged) == (kind.endswith(("_low", "_high")))


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [("pass pass", "pass"), ("pass undecidable", "undecidable"), ("undecidable fail pass", "fail"), ("fail", "fail")],
)
def test_evidence_is_undecidable_where_nothing_failed_and_not_all_could_be_judged(verdicts: str, whole: str) -> None:
    assert judge_whole([{"verdict": verdict} for verdict in verdicts.split()]) == whole


def test_the_evidence_must_have_measured_what_a_gate_is_about() -> None:
    with pytest.raises(EngineError, match="nothing was measured for the gate slope") as refused:
        judge_evidence([gate("slope", "above_low", "0")], {})
    assert (refused.value.code, refused.value.item) == ("GATE_UNMEASURED", "slope")
    with pytest.raises(EngineError, match="no change from the baseline"):
        judge_evidence([gate("slope", "min_difference", "0")], {"slope": {"steered": estimate("1", "1", "1")}})


def test_a_gate_whose_metric_will_be_missing_is_refused_before_any_work() -> None:
    with pytest.raises(EngineError, match="no contrast pairs") as refused:
        refuse_unmeasurable(load_gates("default"), {"slope": "no contrast pairs were given"})
    assert (refused.value.code, refused.value.item) == ("GATE_UNMEASURED", "slope")


def test_a_cell_judges_bounds_by_its_points_and_leaves_out_what_it_does_not_measure() -> None:
    judged = judge_gates(load_gates("style_small_suite"), cell(behaviour="1.9"), BASELINE)
    assert [(verdict["metric"], verdict["kind"]) for verdict in judged] == [
        ("behaviour", "min_difference"),
        ("behaviour", "min_difference_low"),
        ("facts", "min_difference"),
        ("refusals", "min_difference"),
        ("perplexity_ratio", "max_ratio"),
        ("layer_depth", "below"),
    ]
    assert [verdict["verdict"] for verdict in judged] == ["fail", "fail", "pass", "pass", "pass", "pass"]


@pytest.mark.parametrize("name", ["selection", "default", "style_small_suite", "tone", "style", "safety"])
def test_every_set_that_ships_is_sound_and_excludes_the_last_fifth(name: str) -> None:
    gates = load_gates(name)
    assert {each["metric"] for each in gates} <= set(METRICS)
    assert gate("layer_depth", "below", "0.8") in gates
    assert choose_cell([BASELINE, cell()], gates)["alpha"] == "0.5"
    with pytest.raises(EngineError):
        choose_cell([BASELINE, cell(7)], gates)


def test_the_default_set_is_the_table_of_the_reference() -> None:
    expected = [
        gate("slope", "above_low", "0"), gate("slope_over_random", "above_low", "0"), gate("anti_steerable", "max_high", "0.15"),
        gate("ood_ratio", "min", "0.5"), gate("kl_p95", "max", "1"), gate("kl_last_prompt_token", "max", "0.1"),
        gate("perplexity_ratio", "max_ratio", "1.1"), gate("capability_lost", "max_high", "0.02"),
        gate("harmful_compliance_gained", "max_high", "0.01"), gate("over_refusal_gained", "max_high", "0.02"),
        gate("layer_depth", "below", "0.8"),
    ]  # fmt: skip
    assert [each for each in load_gates("default") if each in expected] == expected


def test_a_set_of_gates_goes_by_its_name_and_changes_for_nobody() -> None:
    assert gate_sets() == ("selection", "default", "style_small_suite", "tone", "style", "safety", "composition")
    load_gates("selection")[0]["threshold"] = "9"
    assert load_gates("selection")[0]["threshold"] == "0.5"
    with pytest.raises(GateError, match="style_small_suite") as refused:
        load_gates("lenient")
    assert (refused.value.code, refused.value.item) == ("GATE_SET_UNKNOWN", "lenient")
