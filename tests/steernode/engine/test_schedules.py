"""Schedules: the factor at every token, the same for one token and for many, and never above one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steernode.engine.applying.schedules import CONSTANT, SCHEDULES, Schedule, make_schedule
from steernode.errors import EngineError
from steernode.words import SCHEDULE_PARAMETERS

WHOLE = st.integers(1, 40)
ANY_SCHEDULE = st.one_of(
    st.just(CONSTANT),
    WHOLE.map(lambda tokens: make_schedule("linear", {"tokens": tokens})),
    WHOLE.map(lambda tokens: make_schedule("exponential", {"half_life_tokens": tokens})),
    st.tuples(st.integers(0, 20), st.integers(0, 20)).map(
        lambda window: make_schedule("window", {"first_token": window[0], "last_token": window[0] + window[1]})
    ),
)


@pytest.mark.parametrize(
    ("kind", "parameters", "code", "item"),
    [
        ("cosine", {}, "SCHEDULE_UNKNOWN", "cosine"),
        ("constant", {"tokens": 4}, "SCHEDULE_INVALID", "tokens"),
        ("linear", {}, "SCHEDULE_INVALID", "tokens"),
        ("linear", {"tokens": -3}, "SCHEDULE_INVALID", "tokens"),
        ("linear", {"tokens": 0}, "SCHEDULE_INVALID", "tokens"),
        ("linear", {"tokens": True}, "SCHEDULE_INVALID", "tokens"),
        ("linear", {"tokens": 2.5}, "SCHEDULE_INVALID", "tokens"),
        ("linear", {"tokens": 4, "steps": 2}, "SCHEDULE_INVALID", "steps"),
        ("exponential", {"half_life_tokens": -1}, "SCHEDULE_INVALID", "half_life_tokens"),
        ("window", {"first_token": -1, "last_token": 4}, "SCHEDULE_INVALID", "first_token"),
        ("window", {"first_token": 5, "last_token": 4}, "SCHEDULE_INVALID", "last_token"),
        ("window", {"first_token": 5}, "SCHEDULE_INVALID", "last_token"),
    ],
)
def test_a_schedule_that_means_nothing_is_refused_by_name(kind: str, parameters: dict, code: str, item: str) -> None:
    with pytest.raises(EngineError) as refused:
        make_schedule(kind, parameters)
    assert (refused.value.code, refused.value.item) == (code, item)


@pytest.mark.parametrize(
    ("kind", "parameters", "factors"),
    [
        ("constant", {}, [1, 1, 1, 1, 1, 1]),
        ("linear", {"tokens": 4}, [1, 0.75, 0.5, 0.25, 0, 0]),
        ("linear", {"tokens": 1}, [1, 0, 0, 0, 0, 0]),
        ("exponential", {"half_life_tokens": 2}, [1, 2**-0.5, 0.5, 2**-1.5, 0.25, 2**-2.5]),
        ("window", {"first_token": 1, "last_token": 3}, [0, 1, 1, 1, 0, 0]),
        ("window", {"first_token": 0, "last_token": 0}, [1, 0, 0, 0, 0, 0]),
    ],
)
def test_factors_follow_their_formula_from_token_zero_on(kind: str, parameters: dict, factors: list[float]) -> None:
    schedule = make_schedule(kind, parameters)
    assert [schedule.factor(token) for token in range(6)] == pytest.approx(factors, abs=1e-15)


def test_the_kinds_are_those_that_a_snapshot_can_ask_for() -> None:
    assert set(SCHEDULES) == set(SCHEDULE_PARAMETERS)


@settings(max_examples=60, deadline=None)
@given(schedule=ANY_SCHEDULE, tokens=st.lists(st.integers(-5, 80), min_size=1, max_size=12))
def test_many_tokens_get_what_each_gets_alone_and_a_schedule_only_weakens(schedule: Schedule, tokens: list[int]) -> None:
    together = schedule.factors(torch.tensor(tokens))
    alone = torch.tensor([schedule.factor(token) for token in tokens])
    assert torch.equal(together, alone)
    assert bool(((together >= 0) & (together <= 1)).all())
    # A prompt token before the last is treated as the last.
    assert schedule.factor(-7) == schedule.factor(0)
