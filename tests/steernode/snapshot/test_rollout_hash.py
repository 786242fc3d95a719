"""Where a caller stands: in which share and in which arm, by the hash that anybody can work out."""

from collections import Counter
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steernode.snapshot.rollout import choose_arm, is_in_share, place_of

KEYS = [f"user-{number}" for number in range(2000)]


@pytest.mark.parametrize(
    ("tenant", "key", "share", "in_arms"),
    [
        ("harbor", "user-1", 57691, 37417),
        ("harbor", "user-2", 10571, 66576),
        ("atlas", "user-1", 9385, 54710),
        ("harbor", "ü@example.org", 86798, 4726),
        ("harbor", "42", 1645, 13382),
    ],
)
def test_a_callers_place_is_what_anybody_can_work_out(tenant, key, share, in_arms):
    """printf 'steerhub.rollout/1\\0share\\0harbor\\0user-1' | sha256sum, and so on: the first 16 digits modulo 100,000."""
    assert place_of(key, tenant=tenant, purpose="share") == share
    assert place_of(key, tenant=tenant, purpose="arm") == in_arms


@pytest.mark.parametrize(
    ("tenant", "key", "place", "arm"),
    [
        ("harbor", "user-1", 7454, "warm"),
        ("harbor", "user-2", 68115, "warm"),
        ("atlas", "user-1", 32814, "warm"),
        ("harbor", "\u00fc@example.org", 38930, "control"),
    ],
)
def test_with_a_salt_too_a_place_and_an_arm_are_what_anybody_can_work_out(tenant, key, place, arm):
    """printf 'steerhub.rollout/2\\0share\\0spring\\0harbor\\0user-1' | sha256sum; for an arm …arm, spring, harbor, NAME, user-1."""
    assert place_of(key, tenant=tenant, salt="spring") == place
    arms = [("warm", 9), ("control", 1)]
    assert arms[choose_arm(key, tenant=tenant, arms=arms, salt="spring")][0] == arm


SALTS = st.sampled_from(["", "spring", "autumn"])


@given(key=st.text(max_size=50), small=st.decimals(0, 100, places=3), large=st.decimals(0, 100, places=3), salt=SALTS)
def test_a_growing_share_only_adds_callers(key, small, large, salt):
    small, large = sorted((small, large))
    assert is_in_share(key, tenant="harbor", share=large, salt=salt) or not is_in_share(key, tenant="harbor", share=small, salt=salt)


def test_nobody_is_in_no_share_and_everybody_in_all_of_it():
    assert not any(is_in_share(key, tenant="harbor", share=Decimal(0)) for key in KEYS)
    assert all(is_in_share(key, tenant="harbor", share=Decimal(100)) for key in KEYS)


def side(key: str, arms: list[tuple[str, int]], salt: str) -> str:
    return arms[choose_arm(key, tenant="harbor", arms=arms, salt=salt)][0]


@pytest.mark.parametrize("salt", ["", "spring"])
def test_a_share_covers_about_that_many_callers_and_arms_get_about_their_weights(salt):
    covered = sum(is_in_share(key, tenant="harbor", share=Decimal(25), salt=salt) for key in KEYS)
    assert 450 < covered < 550
    for arms in ([("a", 3), ("b", 1)], [("a", 300), ("b", 100)], [("a", 1), ("b", 2), ("c", 5)], [("a", 997), ("b", 1)]):
        total = sum(weight for _, weight in arms)
        found = Counter(side(key, arms, salt) for key in KEYS)
        for name, weight in arms:
            expected = len(KEYS) * weight / total
            assert abs(found[name] - expected) < 5 * expected**0.5, (arms, found)


@pytest.mark.parametrize("salt", ["", "spring"])
def test_who_is_covered_says_nothing_about_who_is_in_which_arm(salt):
    covered = [key for key in KEYS if is_in_share(key, tenant="harbor", share=Decimal(25), salt=salt)]
    in_first = sum(side(key, [("a", 1), ("b", 1)], salt) == "a" for key in covered)
    assert 0.4 < in_first / len(covered) < 0.6


@given(key=st.text(max_size=50), weights=st.lists(st.integers(1, 1000), min_size=1, max_size=10))
def test_every_caller_is_in_exactly_one_arm_and_stays_there(key, weights):
    position = choose_arm(key, tenant="harbor", arms=[(str(place), weight) for place, weight in enumerate(weights)])
    assert 0 <= position < len(weights)
    # The same line in finer pieces: whoever was in an arm is in one of its halves.
    halves = [half for weight in weights for half in (weight, weight)]
    assert choose_arm(key, tenant="harbor", arms=[(str(place), weight) for place, weight in enumerate(halves)]) // 2 == position


NAMED_ARMS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 20)), min_size=1, max_size=5, unique_by=lambda arm: arm[0])


@given(key=st.text(max_size=50), arms=NAMED_ARMS, data=st.data())
def test_with_a_salt_the_order_of_the_arms_moves_nobody(key, arms, data):
    assert side(key, data.draw(st.permutations(arms)), "spring") == side(key, arms, "spring")


@given(key=st.text(max_size=50), arms=NAMED_ARMS, weight=st.integers(1, 20))
def test_with_a_salt_a_new_arm_takes_callers_and_moves_nobody_between_the_others(key, arms, weight):
    assert side(key, [*arms, ("new", weight)], "spring") in ("new", side(key, arms, "spring"))


@given(key=st.text(max_size=50), arms=NAMED_ARMS, more=st.integers(1, 20))
def test_with_a_salt_a_heavier_arm_only_takes_callers(key, arms, more):
    (name, weight), *others = arms
    assert side(key, [(name, weight + more), *others], "spring") in (name, side(key, arms, "spring"))


@given(key=st.text(max_size=50), arms=NAMED_ARMS, factor=st.integers(2, 50))
def test_with_a_salt_only_the_proportions_of_the_weights_count(key, arms, factor):
    assert side(key, [(name, weight * factor) for name, weight in arms], "spring") == side(key, arms, "spring")


def test_with_another_salt_two_tests_and_two_rollouts_are_independent():
    arms = [("a", 1), ("b", 1)]
    both = Counter((side(key, arms, "spring"), side(key, arms, "autumn")) for key in KEYS)
    assert all(400 < both[pair] < 600 for pair in product("ab", repeat=2))
    first = [{key for key in KEYS if is_in_share(key, tenant="harbor", share=Decimal(10), salt=salt)} for salt in ("spring", "autumn")]
    assert len(first[0] & first[1]) < 45


def test_a_test_from_before_there_were_salts_leaves_its_callers_where_they_are():
    """So that an update moves nobody in the middle of a test."""
    found = [choose_arm(key, tenant="harbor", arms=[("warm", 1), ("control", 1)]) for key in ("user-1", "user-2")]
    assert found == [0, 1]
    assert choose_arm("user-1", tenant="harbor", arms=[("control", 1), ("warm", 1)]) == 0
