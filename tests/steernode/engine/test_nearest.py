"""What a search without a window says: which cell came nearest, the gate that stops it, and the α that would do."""

from __future__ import annotations

from typing import Any

from steernode.canonical import canonical_json, parse_strict
from steernode.engine.searching.nearest import find_nearest

BEHAVIOUR = {"metric": "behaviour", "kind": "min_difference", "threshold": "0.5"}
FACTS = {"metric": "facts", "kind": "min_difference", "threshold": "-0.02"}
PERPLEXITY = {"metric": "perplexity_ratio", "kind": "max_ratio", "threshold": "1.15"}
DEPTH = {"metric": "layer_depth", "kind": "below", "threshold": "0.8"}
GATES = (BEHAVIOUR, FACTS, PERPLEXITY, DEPTH)


def cell(layer: int | None, alpha: str, behaviour: str = "2", ratio: str = "1", facts: str = "0.9", depth: str = "0.5") -> dict[str, Any]:
    values = {"behaviour": behaviour, "perplexity_ratio": ratio, "facts": facts, "layer_depth": "0" if layer is None else depth}
    return {"stage": "final", "layer": layer, "alpha": alpha, **values}


BASELINE = cell(None, "0")


def test_the_single_gate_that_stops_the_nearest_cell_is_named_with_what_a_smaller_dose_lacks() -> None:
    cells = [
        BASELINE,
        cell(16, "0.5", "2.2", "1.05"),
        cell(16, "0.75", "2.35", "1.12"),
        cell(16, "0.85", "2.7", "1.182"),
        cell(15, "1", "2.1", "1.4"),
    ]
    found = find_nearest(cells, GATES)
    assert (found["layer"], found["alpha"]) == (16, "0.85")
    assert [judged["metric"] for judged in found["stopped_by"]] == ["perplexity_ratio"]
    assert found["sentence"].startswith(
        "only perplexity_ratio stops layer 16 at α 0.85: 1.182 against at most 1.15; at 0.75 it is 1.12 and behaviour misses by 0.15; "
    )
    assert parse_strict(canonical_json(found)) == found


def test_an_alpha_between_two_measured_ones_at_which_all_gates_would_pass_is_proposed() -> None:
    # Behaviour passes from 0.77 on, the perplexity ratio up to 0.798.
    cells = [BASELINE, cell(16, "0.75", "2.45", "1.12"), cell(16, "0.85", "2.7", "1.182")]
    found = find_nearest(cells, GATES)
    assert found["would_do"]["layer"] == 16
    assert 0.77 <= float(found["would_do"]["alpha"]) <= 0.7984
    assert found["sentence"].endswith(f"α {found['would_do']['alpha']} would do: search it")


def test_where_no_alpha_would_do_the_windows_of_the_gates_say_so() -> None:
    cells = [BASELINE, cell(16, "0.5", "2.2", "1.2"), cell(16, "1", "3", "1.6")]
    found = find_nearest(cells, GATES)
    assert found["would_do"] is None
    behaviour, perplexity = found["windows"]
    assert (behaviour["metric"], behaviour["to"], perplexity["metric"], perplexity["from"]) == ("behaviour", None, "perplexity_ratio", None)
    assert abs(float(behaviour["from"]) - 0.6875) < 0.01
    assert abs(float(perplexity["to"]) - 0.375) < 0.01
    assert "behaviour passes from 0.6" in found["sentence"]
    assert "no α that was not measured would do" in found["sentence"]


def test_a_gate_that_nothing_passes_is_said_to_pass_at_none() -> None:
    cells = [BASELINE, cell(7, "0.5", "2.2", depth="0.875"), cell(7, "1", "3", depth="0.875")]
    found = find_nearest(cells, GATES)
    [behaviour, depth] = found["windows"]
    assert (behaviour["never"], depth["metric"], depth["never"]) == (False, "layer_depth", True)
    assert "layer_depth passes at none" in found["sentence"]


def test_a_miss_is_counted_in_what_its_gate_gives_away() -> None:
    """A perplexity ratio of 1.16 misses by a fifteenth of what its gate gives, facts of 0.87 by a half of it."""
    near, far = cell(3, "1", "3", "1.16"), cell(4, "1", "3", facts="0.87")
    assert find_nearest([BASELINE, far, near], GATES)["layer"] == 3
    # Fewer gates that stop count for more than smaller misses.
    two = cell(5, "1", "2.49", "1.151")
    assert find_nearest([BASELINE, two, far], GATES)["layer"] == 4


def test_negative_doses_are_told_apart_from_positive_ones() -> None:
    cells = [BASELINE, cell(3, "-0.5", "2.4"), cell(3, "-1", "2.6", "1.3"), cell(3, "1", "1.5", "1.3")]
    found = find_nearest(cells, GATES)
    assert found["alpha"] == "-0.5"
    assert found["would_do"] is None or float(found["would_do"]["alpha"]) < 0


def test_gates_on_a_point_and_on_its_bound_are_one_that_stops() -> None:
    bound = BEHAVIOUR | {"kind": "min_difference_low"}
    found = find_nearest([BASELINE, cell(3, "1", "2.4")], (BEHAVIOUR, bound))
    assert found["sentence"] == (
        "only behaviour stops layer 3 at α 1: 0.4 against a change of at least 0.5; "
        "no α that was not measured would do: behaviour passes at none"
    )
