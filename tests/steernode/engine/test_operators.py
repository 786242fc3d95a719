"""Operators against their formulas, row by row and position by position, and nothing where the coefficient is zero."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from steernode.engine.applying.operators import AddOperator, StateOperator, check_operator
from steernode.errors import EngineError

CPU = torch.device("cpu")
D = 6
DIRECTION = torch.tensor([0.5, -0.5, 0.5, 0.0, 0.5, 0.0])
# Values that a careless h + 0·v would change: minus zero, and an infinity beside a finite direction.
ODD = torch.tensor([-0.0, 1.0, float("inf"), 0.0, -3.5, 1e-38])
BOUNDS = {"add": None, "ablate": None, "clamp": 0.75}


def make_states(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, D, generator=torch.Generator().manual_seed(seed))


def make_operator(
    name: str, coefficients: Tensor, *, bound: float | None = None, preserve_norm: bool = False, dtype: torch.dtype = torch.float32
) -> AddOperator | StateOperator:
    if name == "add" and not preserve_norm:
        return AddOperator([DIRECTION], coefficients[:, None], dtype, CPU)
    bound = BOUNDS[name] if bound is None else bound
    return StateOperator(name, DIRECTION, coefficients, CPU, bound=bound, preserve_norm=preserve_norm)


def oracle(name: str, state: Tensor, coefficient: float, bound: float | None, preserve_norm: bool) -> Tensor:
    """The formula for one state, in float64."""
    h, v = state.double(), DIRECTION.double()
    p = float(h @ v)
    if name == "add":
        after = h + coefficient * v
    elif name == "ablate":
        after = h - coefficient * p * v
    else:
        assert bound is not None
        wanted = min(p, bound) if bound > 0 else max(p, bound)
        after = h + coefficient * (wanted - p) * v
    return after * h.norm() / after.norm() if preserve_norm else after


@pytest.mark.parametrize("name", ["rotate", "", "Add"])
def test_an_unknown_operator_is_refused_by_name(name: str) -> None:
    with pytest.raises(EngineError, match="known are add, ablate, clamp") as refused:
        check_operator(name)
    assert (refused.value.code, refused.value.item) == ("OPERATOR_UNKNOWN", name)


@pytest.mark.parametrize("preserve_norm", [False, True])
@pytest.mark.parametrize(("name", "bound"), [("add", None), ("ablate", None), ("clamp", 0.4), ("clamp", -0.4)])
def test_every_operator_follows_its_formula(name: str, bound: float | None, preserve_norm: bool) -> None:
    coefficients = torch.tensor([1.0, 0.5, 0.25])
    states = make_states(3, 40)
    changed = states.clone()
    make_operator(name, coefficients, bound=bound, preserve_norm=preserve_norm).change_all(changed)
    for row, coefficient in enumerate(coefficients.tolist()):
        for column in range(40):
            wanted = oracle(name, states[row, column], coefficient, bound, preserve_norm)
            torch.testing.assert_close(changed[row, column].double(), wanted, rtol=1e-5, atol=1e-5)


def test_ablation_leaves_no_projection_and_clamping_none_past_the_bound() -> None:
    one = torch.ones(2)
    ablated, capped, floored = (make_states(2, 50) for _ in range(3))
    states = ablated @ DIRECTION
    make_operator("ablate", one).change_all(ablated)
    make_operator("clamp", one, bound=0.3).change_all(capped)
    make_operator("clamp", one, bound=-0.3).change_all(floored)
    torch.testing.assert_close(ablated @ DIRECTION, torch.zeros(2, 50), rtol=0, atol=1e-6)
    torch.testing.assert_close(capped @ DIRECTION, states.clamp(max=0.3), rtol=0, atol=1e-6)
    torch.testing.assert_close(floored @ DIRECTION, states.clamp(min=-0.3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["add", "ablate", "clamp"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(weak=st.floats(0, 1), strong=st.floats(0, 1), seed=st.integers(0, 50))
def test_a_smaller_coefficient_never_changes_a_state_more(name: str, weak: float, strong: float, seed: int) -> None:
    weak, strong = sorted((weak, strong))
    states = make_states(1, 4, seed)
    changes = []
    for strength in (weak, strong):
        changed = states.clone()
        if strength:
            make_operator(name, torch.tensor([strength])).change_all(changed)
        changes.append((changed - states).norm(dim=-1))
    assert bool((changes[0] <= changes[1] + 1e-6).all())


def test_preserving_the_norm_keeps_it_and_leaves_nothing_as_nothing() -> None:
    states = make_states(2, 30)
    # The second row lies along the direction, so that ablation removes all of it.
    states[1] = 3.0 * DIRECTION
    changed = states.clone()
    make_operator("ablate", torch.ones(2), preserve_norm=True).change_all(changed)
    torch.testing.assert_close(changed[0].norm(dim=-1), states[0].norm(dim=-1))
    assert torch.equal(changed[1], torch.zeros(30, D))


def test_a_direction_and_its_opposite_add_up_to_exactly_nothing() -> None:
    directions = [DIRECTION / 3, -DIRECTION / 3, DIRECTION / 3]
    operator = AddOperator(directions, torch.tensor([[0.7, 0.7, 0.0], [1.5, 0.5, -1.0]]), torch.float32, CPU)
    assert operator.active.tolist() == [False, False]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(["add", "ablate", "clamp"]),
    preserve_norm=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    coefficients=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=5),
    columns=st.integers(1, 4),
    factor=st.sampled_from([0.25, 1.0]),
    data=st.data(),
)
def test_some_positions_get_what_all_positions_get_and_zero_rows_stay_as_they_are(
    name: str,
    preserve_norm: bool,
    dtype: torch.dtype,
    coefficients: list[float],
    columns: int,
    factor: float,
    data: st.DataObject,
) -> None:
    rows = len(coefficients)
    mask = torch.tensor([[data.draw(st.booleans()) for _ in range(columns)] for _ in range(rows)])
    stream = make_states(rows, columns).to(dtype)
    for row, coefficient in enumerate(coefficients):
        if not coefficient:
            stream[row] = ODD.to(dtype)
    operator = make_operator(name, torch.tensor(coefficients), preserve_norm=preserve_norm, dtype=dtype)
    everywhere, somewhere = stream.clone(), stream.clone()
    operator.change_all(everywhere, factor)
    picked = mask.nonzero(as_tuple=True)
    operator.change_some(somewhere, *picked, torch.full((len(picked[0]),), factor))
    tolerance = 1e-6 if dtype is torch.float32 else 1e-2
    torch.testing.assert_close(somewhere[mask], everywhere[mask], rtol=tolerance, atol=tolerance)
    assert torch.equal(somewhere[~mask], stream[~mask])
    for row, coefficient in enumerate(coefficients):
        if not coefficient:
            assert torch.equal(everywhere[row], stream[row])
            assert torch.equal(torch.signbit(everywhere[row]), torch.signbit(stream[row]))
            assert torch.equal(torch.signbit(somewhere[row]), torch.signbit(stream[row]))


def test_a_product_is_made_in_float32_and_cast_once() -> None:
    coefficient = torch.tensor([[1.00390625]])
    stream = torch.zeros(1, 1, D, dtype=torch.bfloat16)
    AddOperator([DIRECTION / 3], coefficient, torch.bfloat16, CPU).change_all(stream)
    assert torch.equal(stream[0, 0], (coefficient[0] * (DIRECTION / 3)).to(torch.bfloat16))
