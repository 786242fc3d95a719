"""What a freeze window asks of two snapshots: could anybody get more than before? Judged against what nodes would really do."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.snapshots.freeze import find_increase
from steernode.errors import AlphaError
from steernode.snapshot.records import Snapshot
from steernode.snapshot.resolve import resolve
from tests.support.snapshots import arm, bounds, contents, flag, flags, make_snapshot

KEYS = ["", *(f"user-{number}" for number in range(9))]
ASKED = [None, Decimal("0.1"), Decimal("0.5")]


# -- Against what nodes do ------------------------------------------------------------------------------------------------------


@st.composite
def changes(draw: st.DrawFn) -> tuple[Snapshot, Snapshot]:
    """Two snapshots that differ in a field of a flag, or in anything."""
    made, _ = draw(contents())
    before = make_snapshot(*made)
    if not made or draw(st.booleans()):
        others, _ = draw(contents())
        return before, make_snapshot(*others)
    position = draw(st.integers(0, len(made) - 1))
    other = draw(flags("harbor", made[position]["route"]))
    field = draw(st.sampled_from(["enabled", "revision", "alpha_scale", "rollout", "rollout_salt", "arms", "arms_salt", "override"]))
    # A revision is a pair; the rest is one field, which may be left out.
    replaced = {"profile", "revision"} if field == "revision" else {field}
    changed = {name: value for name, value in made[position].items() if name not in replaced}
    changed |= {name: other[name] for name in replaced if name in other}
    return before, make_snapshot(*made[:position], changed, *made[position + 1 :])


def dose(snapshot: Snapshot, route: str, key: str, asked: Decimal | None) -> tuple[Any, list[Decimal]] | None:
    """What a node would steer this request by: the revision, and each component's strength; None for nothing."""
    try:
        effective = resolve(snapshot, "harbor", route, key=key, alpha=asked)
    except AlphaError:
        return None
    if effective.profile is None:
        return None
    return (effective.profile.id, effective.profile.revision), [abs(entry.coefficient) for entry in effective.components]


def gets_more(before: Snapshot, after: Snapshot) -> bool:
    """Whether any of many requests is steered by something new, or by more."""
    for route in ("", "chat", "other"):
        for key in KEYS:
            for asked in ASKED:
                new, old = dose(after, route, key, asked), dose(before, route, key, asked)
                if new is None or not any(new[1]):
                    continue
                if old is None or new[0] != old[0] or any(more > less for more, less in zip(new[1], old[1], strict=True)):
                    return True
    return False


@settings(max_examples=400, deadline=None)
@given(change=changes())
def test_whatever_passes_a_freeze_gives_nobody_more(change):
    if find_increase(*change) is None:
        assert not gets_more(*change)


@settings(max_examples=100, deadline=None)
@given(change=changes())
def test_nothing_steers_more_than_itself(change):
    assert find_increase(change[0], change[0]) is None


@st.composite
def lowered(draw: st.DrawFn) -> tuple[Snapshot, Snapshot]:
    """A snapshot, and the same after one change that anybody would call lowering."""
    tenants = draw(flags("harbor", ""))
    less = dict(tenants)
    change = draw(st.sampled_from(["off", "scale", "share", "no override", "narrower override", "control", "gone"]))
    if change == "off":
        less["enabled"] = False
    elif change == "scale":
        less["alpha_scale"] = str(Decimal(less["alpha_scale"]) / 2)
        less["arms"] = [entry | {"alpha_scale": str(Decimal(entry["alpha_scale"]) / 2)} for entry in less.get("arms", [])]
    elif change == "share":
        less["rollout"] = str(Decimal(less["rollout"]) / 2)
    elif change == "no override":
        less.pop("override", None)
    elif change == "narrower override" and "override" in less:
        less["override"] = bounds("0.2", "0.25")
    elif change == "control":
        less["arms"] = [entry | {"alpha_scale": "0"} for entry in less.get("arms", [])]
    after = [] if change == "gone" else [less]
    return make_snapshot(tenants), make_snapshot(*after)


@settings(max_examples=300, deadline=None)
@given(pair=lowered())
def test_turning_off_and_lowering_is_never_an_increase(pair):
    assert find_increase(*pair) is None


# -- By name --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([], [flag()], "harbor would get steering, and gets none"),
        ([flag(enabled=False)], [flag()], "harbor would get steering, and gets none"),
        ([flag(alpha_scale="0.5")], [flag()], "α × 1, instead of × 0.5"),
        ([flag(rollout="10")], [flag(rollout="11")], "for 11 % of callers, instead of 10 %"),
        ([flag(rollout="0")], [flag(rollout="1")], "steering, and gets none"),
        ([flag()], [flag(revision=2)], "warm r2 where it is not served now"),
        ([flag()], [flag(profile="short")], "short r1 where it is not served now"),
        ([flag(revision=2)], [flag()], "warm r1 where it is not served now"),
        ([flag()], [flag(override=bounds("0", "0.6"))], "α 0 to 0.6 by asking"),
        ([flag(override=bounds("0", "0.6"))], [flag(override=bounds("-0.1", "0.6"))], "α -0.1 to 0.6 by asking"),
        ([flag(alpha_scale="0.5", override=bounds("0", "0.6"))], [flag(override=bounds("0", "0.6"))], "α × 1"),
        ([flag()], [flag(arms=[arm("a"), arm("b", revision=2)])], "warm r2"),
        ([flag(arms=[arm("a"), arm("b", alpha_scale="0")])], [flag(arms=[arm("a"), arm("b")])], "where it is not served now"),
        # Callers move from the control to the arm that steers.
        ([flag(arms=[arm("a"), arm("b", alpha_scale="0")])], [flag(arms=[arm("a", 2), arm("b", alpha_scale="0")])], "warm r1"),
        ([flag(arms=[arm("a"), arm("b")])], [flag()], "without a rollout key"),
        ([flag()], [flag(), flag(route="chat", revision=2)], "harbor/chat would get warm r2"),
        # The route was off; without its own flag it gets what the tenant gets.
        ([flag(), flag(route="chat", enabled=False)], [flag()], "harbor/chat would get steering"),
        ([flag()], [flag(), flag(tenant="atlas")], "atlas would get steering"),
        ([flag(rollout="50", rollout_salt="a")], [flag(rollout="50", rollout_salt="b")], "for other callers"),
        (
            [flag(arms=[arm("a"), arm("b", alpha_scale="0")], arms_salt="s")],
            [flag(arms=[arm("a"), arm("b", alpha_scale="0")], arms_salt="t")],
            "warm r1 where it is not served now",
        ),
    ],
)
def test_each_increase_is_found_and_named(before, after, words):
    assert words in (find_increase(make_snapshot(*before), make_snapshot(*after)) or "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([flag()], []),
        ([flag()], [flag(rollout="50", rollout_salt="b")]),
        (
            [flag(arms=[arm("a"), arm("b", alpha_scale="0")], arms_salt="s")],
            [flag(arms=[arm("b", alpha_scale="0"), arm("a", alpha_scale="0.5")], arms_salt="s")],
        ),
        ([flag()], [flag(arms=[arm("a", alpha_scale="0.5"), arm("control", alpha_scale="0")])]),
        ([flag()], [flag(), flag(route="chat", alpha_scale="0.5")]),
        ([flag(), flag(route="chat")], [flag()]),
        ([flag(override=bounds("0", "0.6"))], [flag(override=bounds("0.1", "0.5"))]),
        ([], [flag(alpha_scale="0")]),
        ([], [flag(rollout="0", override=bounds("0", "0.6"))]),
    ],
)
def test_each_lowering_passes(before, after):
    assert find_increase(make_snapshot(*before), make_snapshot(*after)) is None


def test_the_kills_that_a_snapshot_of_the_old_form_lists_are_not_lifted_by_one_that_lists_none():
    before = make_snapshot(flag(), kills=(("everything", "*"), ("tenant", "harbor")))
    assert find_increase(before, make_snapshot(flag())) is None


def test_turning_on_under_a_kill_is_an_increase_too():
    """The kill may be lifted before the window is over; then nobody would be asked again."""
    killed = (("everything", "*"),)
    assert find_increase(make_snapshot(kills=killed), make_snapshot(flag(), kills=killed))
