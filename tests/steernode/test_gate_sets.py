"""Which gates are at least as strict as others: what a risk policy asks of the gates that a recipe chose."""

import subprocess
import sys
from decimal import Decimal
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steernode.canonical import parse_strict
from steernode.gates import KINDS, OF_ONE_DIRECTION, candidate_layers, composition_gates, find_weaker_gates, gate_sets, load_gates
from steernode.power import ATTACKED, HELD, count_items, foresee


def gate(kind: str, threshold: str, metric: str = "facts") -> dict[str, str]:
    return {"metric": metric, "kind": kind, "threshold": threshold}


@pytest.mark.parametrize("name", gate_sets())
def test_every_set_is_as_strict_as_itself(name):
    assert find_weaker_gates(load_gates(name), load_gates(name)) == []


def test_the_least_set_is_covered_by_the_others_and_covers_none_of_them():
    for name in ("default", "style_small_suite"):
        assert find_weaker_gates(load_gates(name), load_gates("selection")) == []
        assert find_weaker_gates(load_gates("selection"), load_gates(name))


@pytest.mark.parametrize(("name", "wider"), [("safety", "tone"), ("tone", "style")])
def test_a_set_for_what_lies_nearer_to_a_refusal_is_as_strict_as_the_next(name, wider):
    assert find_weaker_gates(load_gates(name), load_gates(wider)) == []
    assert find_weaker_gates(load_gates(wider), load_gates(name))


def test_every_gate_of_every_set_says_why_and_nothing_in_sets_for_real_teams_is_of_one_scale_or_model():
    document = parse_strict(files("steernode").joinpath("data/gates.json").read_bytes())
    for name, declared in document["sets"].items():
        assert declared["about"], name
        assert all(len(each["why"]) > 20 or each["why"].startswith("As in") for each in declared["gates"]), name
    for name in ("tone", "style", "safety"):
        # Half a point of a rubric, or a ratio to the model's own replies, meant something else on every model.
        assert not {"perplexity_ratio", "kl_last_prompt_token", "refusals"} & {each["metric"] for each in load_gates(name)}
        assert gate("min", "0.5", "behaviour_share") in load_gates(name)
        assert {each["threshold"] for each in load_gates(name) if each["metric"] == "behaviour"} == {"0"}


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("tone", {"harmful requests": 59, "harmless look-alikes": 36, "facts": 52, "pairs": 22, "harmful requests under attack": 29}),
        ("safety", {"harmful requests": 299, "harmless look-alikes": 149, "facts": 133, "facts and capability items": 149,
            "harmful requests under attack": 149}),
    ],
)  # fmt: skip
def test_the_reasons_name_as_many_items_as_a_set_needs(name, least):
    needed = {}
    for power in foresee(load_gates(name), count_items({})):
        needed[power.unit] = max(power.needed, needed.get(power.unit, 0))
    assert least.items() <= needed.items()
    # What is asked again under attack and under random directions is enough for the bounds of the sets.
    assert needed["harmful requests under attack"] <= ATTACKED
    assert needed.get("facts under random directions", 0) <= HELD


@pytest.mark.parametrize(
    ("n_layers", "gates", "layers"),
    [
        (1, "default", range(1)),
        (5, "default", range(4)),
        (8, "default", range(7)),
        (10, "default", range(8)),
        (16, "default", range(13)),
        (10, [gate("max", "0.8", "layer_depth"), gate("above", "0.2", "layer_depth")], range(3, 9)),
        (10, [gate("min", "0.9")], range(10)),
        (10, [gate("below", "0", "layer_depth")], range(0)),
        # A third is written 0.333333, and that is what a gate compares.
        (24, [gate("max", "0.333333", "layer_depth")], range(9)),
    ],
)
def test_candidates_are_the_layers_that_no_gate_refuses_for_their_depth(n_layers, gates, layers):
    assert candidate_layers(n_layers, gates) == list(layers)


def test_a_composition_is_held_to_its_own_gates_and_to_all_that_are_not_about_one_direction():
    gates = composition_gates(["default", [gate("max", "0.5", "norm_share")], "default"])
    joint = [each for each in load_gates("default") if each["metric"] not in OF_ONE_DIRECTION]
    assert gates == (*load_gates("composition"), *(each for each in joint if each["metric"] != "kl_p95"), gate("max", "0.5", "norm_share"))
    assert composition_gates([]) == load_gates("composition")


@pytest.mark.parametrize(
    ("mine", "demanded", "is_enough"),
    [
        (gate("min", "0.9"), gate("min", "0.9"), True),
        (gate("min", "0.91"), gate("min", "0.9"), True),
        (gate("min", "0.89"), gate("min", "0.9"), False),
        (gate("max", "0.1"), gate("max", "0.2"), True),
        (gate("max", "0.3"), gate("max", "0.2"), False),
        # At the threshold itself, the one that lets it pass is the weaker one.
        (gate("above", "0.9"), gate("min", "0.9"), True),
        (gate("min", "0.9"), gate("above", "0.9"), False),
        (gate("min", "0.91"), gate("above", "0.9"), True),
        (gate("max_ratio", "1.1"), gate("max", "1.1"), True),
        # A bound may stand for its point, a point for no bound.
        (gate("min_low", "0.9"), gate("min", "0.9"), True),
        (gate("min", "0.9"), gate("min_low", "0.9"), False),
        (gate("max_high", "0.1"), gate("max", "0.1"), True),
        # A level is no change, a floor no ceiling, and one metric not another.
        (gate("min", "0.9"), gate("min_difference", "-0.02"), False),
        (gate("max", "0.9"), gate("min", "0.1"), False),
        (gate("min", "0.9", "refusals"), gate("min", "0.9"), False),
        ({"metric": "facts", "threshold": "0.9"}, gate("min", "0.9"), False),
    ],
)
def test_a_gate_is_enough_only_if_all_that_passes_it_passes_the_demanded_one(mine, demanded, is_enough):
    assert (find_weaker_gates([mine], [demanded]) == []) is is_enough


@given(
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(sorted(KINDS)),
    st.integers(-3, 3),
    st.integers(-3, 3),
    st.integers(-3, 3),
    st.integers(0, 3),
)
def test_no_value_passes_a_gate_that_is_enough_and_fails_the_demanded_one(kind, other, mine, demanded, point, width):
    gates = [gate(kind, str(mine))], [gate(other, str(demanded))]
    if find_weaker_gates(*gates):
        return
    estimate = {"value": Decimal(point), "low": Decimal(point - width), "high": Decimal(point + width)}

    def passes(judged: dict[str, str]) -> bool:
        value, threshold = estimate[KINDS[judged["kind"]].side], Decimal(judged["threshold"])
        return {"min": value >= threshold, "max": value <= threshold, "above": value > threshold, "below": value < threshold}[
            KINDS[judged["kind"]].passes
        ]

    assert passes(gates[1][0]) or not passes(gates[0][0])


def test_gate_sets_are_read_without_torch():
    code = (
        "import sys; from steernode.gates import gate_sets; assert gate_sets(); assert not {'torch', 'steernode.engine'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
