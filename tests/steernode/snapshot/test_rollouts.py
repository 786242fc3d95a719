"""Who is in a share and who in which arm, and what a request may ask for."""

from decimal import Decimal

import pytest
from hypothesis import given, settings

from steernode.canonical import canonical_json
from steernode.errors import AlphaError, SnapshotRefused
from steernode.snapshot.document import parse_document, parse_snapshot
from steernode.snapshot.limits import check_limits, find_alpha_problem
from steernode.snapshot.records import Kill
from steernode.snapshot.resolve import Step, apply_conditions, resolve, resolve_arms
from tests.support.hub_simulator import make_component, make_content, make_document, make_flag, make_profile
from tests.support.snapshots import contents, make_snapshot

KEYS = [f"user-{number}" for number in range(2000)]


def read(**content):
    return parse_snapshot(parse_document(canonical_json(make_document(content=make_content(**content)))))


def arm(name, weight=1, **changes):
    return {"name": name, "weight": weight, "profile": "harbor-empathy", "alpha_scale": "1"} | changes


# -- A rollout ------------------------------------------------------------------------------------------------------------------


def test_a_partial_rollout_steers_whom_the_share_covers_and_says_who_it_does_not():
    snapshot = read(flags=[make_flag(rollout="50")])
    assert resolve(snapshot, "harbor", "", key="user-2").reason == "flag_on"  # at 10.571 %
    assert resolve(snapshot, "harbor", "", key="user-1").reason == "not_in_rollout"  # at 57.691 %
    missing = resolve(snapshot, "harbor", "")
    assert (missing.profile, missing.reason) == (None, "rollout_key_missing")


def test_a_whole_rollout_asks_for_no_key():
    assert resolve(read(flags=[make_flag(rollout="100")]), "harbor", "").reason == "flag_on"


@pytest.mark.parametrize("salt", [{}, {"rollout_salt": "spring"}])
def test_a_caller_is_in_the_same_share_on_every_route_of_one_salt(salt):
    snapshot = read(flags=[make_flag(rollout="50", **salt), make_flag(route="chat", rollout="50", **salt)])
    for key in KEYS[:50]:
        assert resolve(snapshot, "harbor", "", key=key).reason == resolve(snapshot, "harbor", "chat", key=key).reason


# -- Arms -----------------------------------------------------------------------------------------------------------------------


def test_an_arm_decides_revision_and_scale_and_is_named():
    profiles = [make_profile(revision=3), make_profile(revision=4, components=[make_component(alpha="0.3")])]
    arms = [arm("now", revision=3, alpha_scale="0.5"), arm("next", revision=4)]
    snapshot = read(profiles=profiles, flags=[make_flag(revision=3, arms=arms)])
    now, following = resolve(snapshot, "harbor", "", key="user-1"), resolve(snapshot, "harbor", "", key="user-2")
    assert (now.arm, now.profile.revision, now.components[0].alpha) == ("now", 3, Decimal("0.25"))
    assert (following.arm, following.profile.revision, following.components[0].alpha) == ("next", 4, Decimal("0.3"))
    assert resolve(snapshot, "harbor", "").reason == "rollout_key_missing"


def test_a_control_arm_is_not_steered_and_keeps_its_name():
    arms = [arm("warm"), arm("control", profile="no-longer-served", alpha_scale="0")]
    control = resolve(read(flags=[make_flag(arms=arms)]), "harbor", "", key="user-2")
    assert (control.profile, control.reason, control.arm) == (None, "zero_scale", "control")


def test_a_single_arm_asks_for_no_key():
    assert resolve(read(flags=[make_flag(arms=[arm("only")])]), "harbor", "").arm == "only"


def test_the_profile_of_an_arm_may_be_killed_alone():
    profiles = [make_profile(), make_profile(id="harbor-brevity")]
    arms = [arm("warm"), arm("short", profile="harbor-brevity")]
    snapshot = read(profiles=profiles, flags=[make_flag(arms=arms)], kills=[{"kind": "profile", "target": "harbor-brevity"}])
    assert resolve(snapshot, "harbor", "", key="user-1").reason == "flag_on"
    assert resolve(snapshot, "harbor", "", key="user-2").reason == "killed_profile"


def test_the_arm_is_known_whatever_the_conditions_decide():
    profile = make_profile(components=[make_component(condition={"kind": "intent", "labels": ["refund"]})])
    needs = [*make_content()["capabilities"], "condition:intent"]
    snapshot = read(profiles=[profile], flags=[make_flag(arms=[arm("warm")])], capabilities=needs)
    settled = apply_conditions(resolve(snapshot, "harbor", ""), lambda document: False)
    assert (settled.reason, settled.arm) == ("condition_unmet", "warm")


# -- An override ----------------------------------------------------------------------------------------------------------------

FORMAL = {"alpha_min": "0", "alpha_max": "0.6"}


@pytest.mark.parametrize(("asked", "coefficient"), [("0.6", "24.72"), ("0.1", "4.12")])
def test_a_request_gets_the_alpha_it_asks_for_inside_the_bounds(asked, coefficient):
    effective = resolve(read(flags=[make_flag(override=FORMAL, alpha_scale="0.5")]), "harbor", "", alpha=Decimal(asked))
    assert (effective.reason, effective.components[0].alpha) == ("override", Decimal(asked))
    assert effective.components[0].coefficient == Decimal(coefficient)


@pytest.mark.parametrize("asked", ["0.600001", "-0.1", "1000"])
def test_outside_of_the_bounds_a_request_is_refused_and_nothing_is_clamped(asked):
    trail: list[Step] = []
    with pytest.raises(AlphaError) as refused:
        resolve(read(flags=[make_flag(override=FORMAL)]), "harbor", "", alpha=Decimal(asked), trail=trail)
    assert (refused.value.code, refused.value.item) == ("OVERRIDE_RANGE", asked)
    assert (trail[-1].rule, trail[-1].reason) == ("override", "OVERRIDE_RANGE")


def test_a_flag_without_bounds_lets_no_request_choose():
    with pytest.raises(AlphaError) as refused:
        resolve(read(), "harbor", "", alpha=Decimal("0.5"))
    assert refused.value.code == "OVERRIDE_NOT_ALLOWED"


def test_a_request_that_may_ask_for_nothing_gets_nothing():
    effective = resolve(read(flags=[make_flag(override=FORMAL)]), "harbor", "", alpha=Decimal(0))
    assert (effective.profile, effective.reason) == (None, "zero_alpha")


def test_a_flag_at_scale_zero_steers_only_whoever_asks():
    snapshot = read(flags=[make_flag(override=FORMAL, alpha_scale="0")])
    assert resolve(snapshot, "harbor", "").reason == "zero_scale"
    assert resolve(snapshot, "harbor", "", alpha=Decimal("0.3")).components[0].alpha == Decimal("0.3")


def test_an_override_is_of_the_first_component_and_leaves_the_others():
    profile = make_profile(components=[make_component(), make_component(layer=9, alpha="0.4")])
    effective = resolve(read(profiles=[profile], flags=[make_flag(override=FORMAL, alpha_scale="0.5")]), "harbor", "", alpha=Decimal("0.6"))
    assert [entry.alpha for entry in effective.components] == [Decimal("0.6"), Decimal("0.2")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"kills": [{"kind": "everything", "target": "*"}]}, "killed_everything"),
        ({"flags": [make_flag(enabled=False)]}, "flag_off"),
        ({"flags": []}, "no_flag"),
        ({"flags": [make_flag(rollout="0", override=FORMAL)]}, "not_in_rollout"),
    ],
)
def test_where_nothing_steers_asking_is_no_error(content, reason):
    """So that a kill takes steering away from a client, and not its answers."""
    assert resolve(read(**content), "harbor", "", key="user-1", alpha=Decimal(999)).reason == reason


# -- Every arm of a flag --------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(content=contents())
def test_an_account_of_every_arm_is_what_callers_in_it_get(content):
    flags, kills = content
    snapshot = make_snapshot(*flags, kills=kills)
    for flag in snapshot.flags:
        answers = dict(zip([arm.name for arm in flag.choices], resolve_arms(snapshot, flag), strict=True))
        steered = set()
        for asked in (None, flag.override.alpha_min, flag.override.alpha_max) if flag.override else (None,):
            for key in KEYS[:200]:
                effective = resolve(snapshot, flag.tenant, flag.route, key=key, alpha=asked)
                steered |= {name for name in answers if effective.profile and effective.arm == name}
                if effective.profile:
                    assert answers[effective.arm].profile == effective.profile
                elif effective.reason != "not_in_rollout" and flag.override is None:
                    # Where something stops all of them, they are in no arm.
                    assert answers.get(effective.arm, next(iter(answers.values()))).reason == effective.reason
        assert steered == {name for name, answer in answers.items() if answer.profile}


def test_an_override_that_holds_only_zero_steers_nobody_by_itself():
    nothing = {"alpha_min": "0", "alpha_max": "0"}
    for scale, reason in (("0", "zero_alpha"), ("1", "flag_on")):
        snapshot = read(flags=[make_flag(override=nothing, alpha_scale=scale)])
        assert [answer.reason for answer in resolve_arms(snapshot, snapshot.flags[0])] == [reason]


def test_an_answer_names_the_flag_that_decided():
    snapshot = read(flags=[make_flag(), make_flag(route="chat", enabled=False)])
    assert (resolve(snapshot, "harbor", "sales").flag, resolve(snapshot, "harbor", "chat").flag) == snapshot.flags
    assert resolve(snapshot, "atlas", "").flag is None
    assert apply_conditions(resolve(snapshot, "harbor", ""), lambda document: True).flag == snapshot.flags[0]


def test_the_widest_kill_is_the_one_that_is_named():
    kills = [{"kind": "profile", "target": "p"}, {"kind": "tenant", "target": "harbor"}, {"kind": "environment", "target": "staging"}]
    snapshot = read(kills=kills)
    assert snapshot.kill_on("atlas") is None
    assert snapshot.kill_on("atlas", "p") == Kill("profile", "p")
    assert snapshot.kill_on("harbor") == snapshot.kill_on("harbor", "p") == Kill("tenant", "harbor")
    careless = read(kills=[*kills, {"kind": "everything", "target": "harbor"}])
    assert careless.kill_on("atlas").kind == "everything"


# -- The trail ------------------------------------------------------------------------------------------------------------------


def test_the_trail_tells_every_rule_in_the_order_it_decided():
    trail: list[Step] = []
    arms = [arm("warm", 9), arm("control", alpha_scale="0")]
    resolve(
        read(flags=[make_flag(rollout="60", arms=arms, override=FORMAL)]), "harbor", "chat", key="user-1", alpha=Decimal("0.5"), trail=trail
    )
    assert [step.rule for step in trail] == ["kill", "flag", "rollout", "arm", "profile", "override", "scale"]
    assert "57.691 %, the share is 60 %" in trail[2].says
    assert [step.reason for step in trail[:-1]] == [""] * 6
    assert trail[-1].reason == "override"


# -- What is never compiled and never applied -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flag",
    [
        make_flag(rollout="100.1"),
        make_flag(rollout="-1"),
        make_flag(rollout=50),
        make_flag(rollout="50", rollout_salt=""),
        make_flag(arms=[arm("a")], arms_salt=7),
        make_flag(arms=[arm("a"), arm("a")]),
        make_flag(arms=[arm("a", 0)]),
        make_flag(arms=[arm("a", 1001)]),
        make_flag(arms=[arm("a", True)]),
        make_flag(arms=[arm("")]),
        make_flag(arms=[arm("a", alpha_scale="-1")]),
        make_flag(arms=[arm("a", profile="unlisted")]),
        make_flag(arms=[arm(str(number)) for number in range(11)]),
        make_flag(arms=[arm("a", surprise=1)]),
        make_flag(override={"alpha_min": "0.5", "alpha_max": "0.4"}),
        make_flag(override={"alpha_min": "0"}),
        make_flag(override={"alpha_min": 0.1, "alpha_max": "0.4"}),
    ],
)
def test_a_flag_that_means_nothing_is_refused(flag):
    document = make_document() | {"flags": [flag]}
    with pytest.raises(SnapshotRefused) as refused:
        parse_snapshot(document)
    assert refused.value.code == "SCHEMA"
    assert refused.value.item


@pytest.mark.parametrize(
    "flag",
    [
        make_flag(arms=[arm("a"), arm("b", alpha_scale="1.3")]),
        make_flag(override={"alpha_min": "-0.1", "alpha_max": "0.5"}),
        make_flag(override={"alpha_min": "0", "alpha_max": "0.61"}),
    ],
)
def test_no_arm_and_no_override_leaves_what_was_approved(flag):
    assert "outside 0 to 0.6" in (find_alpha_problem(read(flags=[flag])) or "")


CAPS = {"absolute": "1000", "mean_difference": "2", "residual": "1"}


def limits(**classes):
    return make_content()["limits"] | {"risk_classes": classes}


def test_the_cap_of_a_risk_class_counts_on_top_of_the_snapshots():
    tight = {"alpha_cap": CAPS | {"mean_difference": "0.5"}}
    with pytest.raises(SnapshotRefused, match=r"the cap is 0\.5") as refused:
        check_limits(read(limits=limits(low=tight)))
    assert refused.value.code == "ALPHA_CAP"
    check_limits(read(limits=limits(low={"alpha_cap": CAPS})))


def test_a_profile_of_a_class_without_limits_is_refused_once_classes_have_limits():
    with pytest.raises(SnapshotRefused, match="lists no class 'low'"):
        read(limits=limits(high={"alpha_cap": CAPS}))


@pytest.mark.parametrize(
    ("flag", "budget", "fits"),
    [
        # 0.5 mean differences of norm 41.2 are 20.6, of a mean residual norm of 180.1: 0.1144 each.
        (make_flag(), "0.2288", True),
        (make_flag(), "0.2287", False),
        (make_flag(alpha_scale="0.5"), "0.1144", True),
        (make_flag(alpha_scale="0.5", arms=[arm("a", alpha_scale="0.1"), arm("b", alpha_scale="0.6")]), "0.13", False),
        (make_flag(alpha_scale="0.1", override={"alpha_min": "0", "alpha_max": "0.6"}), "0.14", False),
        (make_flag(alpha_scale="0.1", override={"alpha_min": "0", "alpha_max": "0.6"}), "0.15", True),
        (make_flag(enabled=False), "0.01", True),
    ],
)
def test_the_composition_budget_counts_all_components_of_one_layer_at_their_largest(flag, budget, fits):
    profile = make_profile(components=[make_component(), make_component(), make_component(layer=9)])
    snapshot = read(profiles=[profile], flags=[flag], limits=limits(low={"alpha_cap": CAPS, "composition_budget": budget}))
    if fits:
        check_limits(snapshot)
        return
    with pytest.raises(SnapshotRefused, match="at layer 6") as refused:
        check_limits(snapshot)
    assert refused.value.code == "COMPOSITION_BUDGET"


def test_ablations_do_not_spend_the_budget():
    profile = make_profile(components=[make_component(operator="ablate", alpha="1", alpha_max="1")])
    needs = [*make_content()["capabilities"], "operator:ablate"]
    check_limits(read(profiles=[profile], capabilities=needs, limits=limits(low={"alpha_cap": CAPS, "composition_budget": "0"})))
