"""Which layers a search cannot tell apart, from the intervals of what was measured of each."""

from __future__ import annotations

from typing import Any

from steernode.engine.searching.recipe import SweepRecipe
from steernode.engine.searching.ties import describe_rounds, find_ties

RECIPE = SweepRecipe(alphas=("0", "0.5"), screen_kl="1")


def screened(layer: int | None, shift: float, reach: float, number: int = 0) -> dict[str, Any]:
    ends = {"margin_shift_low": str(shift - reach), "margin_shift_high": str(shift + reach)}
    place = {"stage": "screen", "round": number, "layer": layer, "layer_depth": "0.5", "alpha": "0" if layer is None else "0.5"}
    return {**place, "items": {"margins": 16}, "margin_shift": str(shift), "kl_p95": "1", **ends}


def replied(layer: int, behaviour: float, reach: float, verdict: str = "pass") -> dict[str, Any]:
    ends = {"behaviour_low": str(behaviour - reach), "behaviour_high": str(behaviour + reach)}
    gates = [{"metric": "facts", "verdict": verdict}]
    return {"stage": "final", "layer": layer, "alpha": "0.5", "behaviour": str(behaviour), "gates": gates, **ends}


def test_layers_whose_replies_differ_by_less_than_their_intervals_tie() -> None:
    near, far = replied(15, 3.8, 0.3), replied(14, 2, 0.3)
    best = replied(16, 4, 0.3)
    assert find_ties([best, near, far], best, RECIPE)["layers"] == [15, 16]
    # As much behaviour at the price of a gate is no tie.
    assert find_ties([best, replied(15, 3.8, 0.3, "fail")], best, RECIPE) == {"layers": [16], "sentence": ""}


def test_layers_that_were_only_screened_tie_by_the_last_round_in_which_both_were_measured() -> None:
    best = replied(16, 4, 0.3)
    early = [screened(16, 6, 3), screened(18, 5, 3), screened(15, 5, 3), screened(2, 0.5, 0.2)]
    late = [screened(16, 6.5, 0.4, 1), screened(15, 6.2, 0.4, 1), screened(18, 4, 0.4, 1)]
    ties = find_ties([*early, *late, best], best, RECIPE)
    assert ties["layers"] == [15, 16]
    assert ties["sentence"] == "layers 15 and 16 cannot be told apart: their intervals overlap; no replies were written with 15"


def test_what_the_replies_say_counts_for_more_than_what_the_screen_said() -> None:
    best, worse = replied(16, 4, 0.3), replied(15, 2, 0.3)
    screen = [screened(16, 6.5, 1), screened(15, 6.2, 1), screened(18, 6, 1)]
    assert find_ties([*screen, best, worse], best, RECIPE)["layers"] == [16, 18]


def test_a_round_says_of_each_layer_what_it_buys_and_how_surely() -> None:
    [found] = describe_rounds([screened(None, 0, 0), screened(3, 2, 0.5), screened(4, 5, 1)], RECIPE)
    assert (found["round"], found["items"]) == (0, 16)
    assert found["layers"] == [{"layer": 4, "shift": "5", "low": "4", "high": "6"}, {"layer": 3, "shift": "2", "low": "1.5", "high": "2.5"}]
