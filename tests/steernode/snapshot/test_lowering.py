"""What a later word takes away from the snapshot in force: never more to anybody, and nothing where it cannot be followed."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steernode.errors import AlphaError
from steernode.snapshot.lowering import Word, lower
from steernode.snapshot.resolve import Effective, resolve, unsteered
from tests.support.snapshots import PROFILES, arm, bounds, contents, flag, make_document, make_snapshot


def read(*flags, **changes):
    """The word of a document that may be wrong in places."""
    return Word.read(make_document(*flags) | changes)


def outcome(snapshot, word, tenant="harbor", route="", **asked):
    return resolve(lower(snapshot, word).snapshot, tenant, route, **asked)


def unfollowed(snapshot, word):
    return sorted(lower(snapshot, word).unfollowed)


IN_FORCE = make_snapshot(flag(), flag(tenant="atlas"))


def is_steered(word, tenant="harbor", route=""):
    return outcome(IN_FORCE, word, tenant, route).profile is not None


def test_without_a_word_nothing_is_lowered():
    assert lower(IN_FORCE, None).snapshot is IN_FORCE
    assert lower(IN_FORCE, read(flag(), flag(tenant="atlas"))).snapshot is IN_FORCE


@pytest.mark.parametrize("flags", [[flag(enabled=False)], []])
def test_a_flag_that_is_off_or_gone_is_off_at_once_and_for_its_tenant_alone(flags):
    word = read(*flags, flag(tenant="atlas"))
    assert outcome(IN_FORCE, word).reason == "flag_off"
    assert is_steered(word, "atlas")
    assert unfollowed(IN_FORCE, word) == []


def test_a_scale_a_share_and_an_override_count_where_they_are_smaller():
    snapshot = make_snapshot(flag(alpha_scale="0.8", rollout="60", override=bounds("0.1", "0.6")))
    [least] = lower(snapshot, read(flag(alpha_scale="0.5", rollout="80", override=bounds("0", "0.3")))).snapshot.flags
    assert (least.alpha_scale, least.rollout) == (Decimal("0.5"), Decimal(60))
    assert (least.override.alpha_min, least.override.alpha_max) == (Decimal("0.1"), Decimal("0.3"))
    [least] = lower(snapshot, read(flag(alpha_scale="1", rollout="10"))).snapshot.flags
    assert (least.alpha_scale, least.rollout, least.override) == (Decimal("0.8"), Decimal(10), None)
    [least] = lower(snapshot, read(flag(override=bounds("0.7", "0.9")))).snapshot.flags
    assert least.override is None


def test_each_arm_counts_where_it_is_smaller():
    snapshot = make_snapshot(flag(arms=[arm("now"), arm("next", revision=2)]))
    word = read(flag(revision=2, arms=[arm("now", alpha_scale="0.5"), arm("next", revision=2, alpha_scale="0")]))
    [least] = lower(snapshot, word).snapshot.flags
    assert [each.alpha_scale for each in least.arms] == [Decimal("0.5"), Decimal(0)]


def test_arms_in_another_order_are_the_same_arms_where_callers_are_placed_by_their_names():
    def declare(*arms):
        return flag(arms=list(arms), arms_salt="spring")

    snapshot = make_snapshot(declare(arm("now"), arm("next", 3, revision=2)))
    assert lower(snapshot, read(declare(arm("next", 3, revision=2), arm("now")))).snapshot.flags == snapshot.flags
    [least] = lower(snapshot, read(declare(arm("next", 3, revision=2, alpha_scale="0.5"), arm("now")))).snapshot.flags
    assert [(each.name, each.alpha_scale) for each in least.arms] == [("now", Decimal(1)), ("next", Decimal("0.5"))]
    for others in (
        [arm("next", 3), arm("now", revision=2)],
        [arm("now", 3), arm("next", revision=2)],
        [arm("next", 3, revision=2), arm("new")],
    ):
        assert unfollowed(snapshot, read(declare(*others))) == [("harbor", "")]


def test_arms_in_another_order_place_others_where_a_test_has_no_salt():
    snapshot = make_snapshot(flag(arms=[arm("now"), arm("next", 3, revision=2)]))
    assert unfollowed(snapshot, read(flag(arms=[arm("next", 3, revision=2), arm("now")]))) == [("harbor", "")]


def test_an_arm_that_goes_on_as_a_control_leaves_the_others_as_they_are():
    """Its revision was retired, and is not listed any more."""
    snapshot = make_snapshot(flag(arms=[arm("now"), arm("next", revision=2)]))
    word = read(flag(revision=2, arms=[arm("now", alpha_scale="0"), arm("next", revision=2)]), profiles=PROFILES[1:])
    [least] = lower(snapshot, word).snapshot.flags
    assert [each.alpha_scale for each in least.arms] == [Decimal(0), Decimal(1)]


OTHERWISE = {
    "another revision": flag(revision=2),
    "another profile": flag(profile="short"),
    "arms": flag(arms=[arm("now"), arm("next", revision=2)]),
    "a field of tomorrow": flag(only_on_sundays=True),
    "nonsense": flag(alpha_scale=5),
    "a route that is no text": flag(route=None),
}


@pytest.mark.parametrize("said", OTHERWISE.values(), ids=OTHERWISE)
def test_who_gets_something_that_cannot_be_followed_is_not_steered(said):
    word = read(said, flag(tenant="atlas"))
    assert not is_steered(word)
    assert unfollowed(IN_FORCE, word) == [("harbor", "")]
    assert is_steered(word, "atlas")


@pytest.mark.parametrize("arms", [[arm("now", 2), arm("next", revision=2)], [arm("next", revision=2), arm("now")], [arm("now")]])
def test_arms_that_would_move_callers_are_not_followed(arms):
    snapshot = make_snapshot(flag(arms=[arm("now"), arm("next", revision=2)]))
    assert unfollowed(snapshot, read(flag(arms=arms))) == [("harbor", "")]


@pytest.mark.parametrize(
    "profiles",
    [
        PROFILES[1:],
        [PROFILES[0] | {"surprise": 1}, *PROFILES[1:]],
        [PROFILES[0] | {"components": [PROFILES[0]["components"][0] | {"operator": "rotate"}]}, *PROFILES[1:]],
        [PROFILES[0] | {"max_staleness_seconds": 1}, *PROFILES[1:]],
        [PROFILES[0] | {"safety_override": [{"kind": "weather", "above": 1.5}]}, *PROFILES[1:]],
        "none",
    ],
)
def test_who_gets_a_profile_that_is_gone_unreadable_or_another_is_not_steered(profiles):
    snapshot = make_snapshot(flag(), flag(tenant="atlas", revision=2))
    word = read(flag(), flag(tenant="atlas", revision=2), profiles=profiles)
    assert ("harbor", "") in unfollowed(snapshot, word)
    assert (outcome(snapshot, word, "atlas").profile is not None) == (profiles != "none")


def test_an_unknown_field_of_the_whole_takes_nobody_anything():
    assert lower(IN_FORCE, read(flag(), flag(tenant="atlas"), surprise=1, limits="?", capabilities=None)).snapshot is IN_FORCE


def test_a_flag_that_is_there_twice_and_one_that_names_nobody_steer_nobody():
    assert not is_steered(read(flag(), flag(), flag(tenant="atlas")))
    assert not is_steered(read({"enabled": True}, 5, None, flag(tenant="atlas")))
    assert not is_steered(read(flags=None))
    assert not is_steered(read(flags={"harbor": "on"}))


def test_an_unreadable_route_stops_the_whole_tenant():
    snapshot = make_snapshot(flag(), flag(route="chat"))
    word = read(flag(), flag(route="chat", surprise=1))
    assert outcome(snapshot, word).profile is outcome(snapshot, word, route="chat").profile is None


def test_a_route_that_the_word_turns_off_is_off_though_only_the_tenants_flag_was_there():
    word = read(flag(), flag(tenant="atlas"), flag(route="legal", enabled=False))
    assert is_steered(word, route="chat")
    assert not is_steered(word, route="legal")


def test_a_route_without_a_flag_of_its_own_any_more_gets_the_less_of_its_own_and_the_tenants():
    snapshot = make_snapshot(flag(alpha_scale="0.5"), flag(route="chat"))
    assert outcome(snapshot, read(flag(alpha_scale="0.3")), route="chat").alpha_scale == Decimal("0.3")
    assert outcome(snapshot, read(flag(enabled=False)), route="chat").reason == "flag_off"


def test_its_kills_count_beside_those_in_force_as_far_as_they_can_be_read():
    snapshot = make_snapshot(flag(), flag(tenant="atlas"), kills=(("tenant", "atlas"),))
    word = read(flag(), flag(tenant="atlas"), kills=[{"kind": "weather"}, {"kind": "tenant", "target": "harbor"}])
    assert [outcome(snapshot, word, tenant).reason for tenant in ("harbor", "atlas")] == ["killed_tenant", "killed_tenant"]


def test_what_is_only_on_its_way_moves_nobody_before_it_is_there_and_takes_away_at_once():
    coming = Word.of(make_snapshot(flag(revision=2), flag(tenant="atlas", enabled=False)), is_coming=True)
    assert outcome(IN_FORCE, coming).profile.revision == 1
    assert outcome(IN_FORCE, coming, "atlas").reason == "flag_off"
    assert unfollowed(IN_FORCE, coming) == []


# -- At random ------------------------------------------------------------------------------------------------------------------

KEYS = ("", *(f"user-{number}" for number in range(6)))
ASKED = (None, Decimal(0), Decimal("0.2"), Decimal("0.5"))


def ask(snapshot, route, key, alpha) -> Effective:
    try:
        return resolve(snapshot, "harbor", route, key=key, alpha=alpha)
    except AlphaError as error:
        return unsteered(error.code)


@settings(max_examples=400, deadline=None)
@given(st.tuples(contents(), contents()), st.sampled_from(["", "chat", "legal"]), st.sampled_from(KEYS), st.sampled_from(ASKED))
def test_nobody_ever_gets_more_than_by_either(both, route, key, alpha):
    snapshot, said = (make_snapshot(*flags, kills=kills) for flags, kills in both)
    left = ask(lower(snapshot, Word.of(said)).snapshot, route, key, alpha)
    for either in (ask(snapshot, route, key, alpha), ask(said, route, key, alpha)):
        if left.profile is not None:
            assert left.profile == either.profile
            pairs = zip(left.components, either.components, strict=True)
            assert all(abs(less.coefficient) <= abs(more.coefficient) for less, more in pairs)


@settings(max_examples=200, deadline=None)
@given(contents(), st.sampled_from(["", "chat", "legal"]), st.sampled_from(KEYS), st.sampled_from(ASKED))
def test_a_word_that_says_the_same_changes_nothing(content, route, key, alpha):
    flags, kills = content
    snapshot = make_snapshot(*flags, kills=kills)
    assert ask(lower(snapshot, Word.of(snapshot)).snapshot, route, key, alpha) == ask(snapshot, route, key, alpha)
