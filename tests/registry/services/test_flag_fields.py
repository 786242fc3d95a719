"""Rollouts, arms, overrides and inheritance of flags: what a person may state, and what nodes are then told."""

from decimal import Decimal

import pytest

from registry.audit.history import events_of, read_changes
from registry.errors import InvalidInput, RecordChanged, TransitionRefused
from registry.models import FlagArm, TenantFlag
from registry.reads.documents import tag_flag
from registry.reads.steering import head_snapshot
from registry.services.approvals import approve_revision
from registry.services.flags import ArmSpec, set_flag
from registry.services.profiles import draft_revision, retire_revision, submit_revision
from registry.snapshots import read_snapshot
from steernode.errors import AlphaError
from steernode.snapshot.records import AlphaBounds
from steernode.snapshot.resolve import resolve

FORMAL = AlphaBounds(Decimal(0), Decimal("0.5"))


@pytest.fixture
def put(production, harbor, approved, oscar):
    """put(route="chat", rollout=...): harbor's flag in production, on unless told otherwise."""

    def change(**stated) -> TenantFlag:
        return set_flag(production, harbor, **{"enabled": True, "reason": "test", "actor": oscar, **stated})

    return change


@pytest.fixture
def second(ada, grace, approved, component):
    """Revision 2 of the same profile, approved too."""
    revision = draft_revision(approved.profile, components=[component], author=ada)
    revision = submit_revision(revision.pk, evaluation=approved.evaluation, actor=ada)
    digests = {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest}
    return approve_revision(revision.pk, reviewer=grace, comment="again", **digests)


def effective(environment, route: str = "", **request):
    return resolve(read_snapshot(head_snapshot(environment)), "harbor", route, **request)


def refused(code: str):
    return pytest.raises((InvalidInput, AlphaError, TransitionRefused), check=lambda error: error.code == code)


def test_what_a_change_does_not_mention_stays_as_it_is(put, approved):
    put(revision=approved, alpha_scale=Decimal("0.5"), rollout=Decimal(20), override=FORMAL, arms=[ArmSpec("warm", 1)])
    flag = put(enabled=False)
    assert (flag.enabled, flag.alpha_scale, flag.rollout, flag.override_max) == (False, Decimal("0.5"), Decimal(20), Decimal("0.5"))
    assert flag.arms.count() == 1
    flag = put(override=None, arms=[])
    assert (flag.override_max, flag.arms.count()) == (None, 0)


def test_nodes_are_told_of_rollout_arms_and_override(put, approved, second, production):
    arms = [ArmSpec("now", 1), ArmSpec("next", 1, second, Decimal("0.5")), ArmSpec("control", 1, alpha_scale=Decimal(0))]
    put(revision=approved, rollout=Decimal("99.5"), arms=arms, override=FORMAL)
    seen = {}
    for number in range(60):
        found = effective(production, key=f"user-{number}")
        seen[found.arm] = (found.reason, found.profile and found.profile.revision)
    assert seen == {
        "": ("not_in_rollout", None),
        "now": ("flag_on", 1),
        "next": ("flag_on", 2),
        "control": ("zero_scale", None),
    } or seen == {
        "now": ("flag_on", 1),
        "next": ("flag_on", 2),
        "control": ("zero_scale", None),
    }
    assert effective(production, key="user-1", alpha=Decimal("0.1")).components[0].alpha == Decimal("0.1")


# -- Inheritance ----------------------------------------------------------------------------------------------------------------


def test_a_routes_new_flag_inherits_all_it_does_not_state(put, approved, production):
    put(revision=approved, alpha_scale=Decimal("0.5"), override=FORMAL)
    chat = put(route="chat", alpha_scale=Decimal("0.2"))
    assert chat.inherits == ["revision", "rollout", "arms", "override"]
    assert effective(production, "chat").components[0].alpha == Decimal("0.1")
    assert effective(production, "chat", alpha=Decimal("0.3")).components[0].alpha == Decimal("0.3")
    assert effective(production, "mail").components[0].alpha == Decimal("0.25")


def test_what_a_route_inherits_follows_the_tenants_flag(put, approved, second, production):
    put(revision=approved)
    put(route="chat", rollout=Decimal(100))
    put(revision=second, alpha_scale=Decimal("0.4"))
    found = effective(production, "chat")
    assert (found.profile.revision, found.components[0].alpha) == (2, Decimal("0.2"))


def test_a_route_gives_a_field_back(put, approved, production):
    put(revision=approved, alpha_scale=Decimal("0.5"))
    put(route="chat", alpha_scale=Decimal("0.1"), override=FORMAL)
    chat = put(route="chat", inherit=["alpha_scale", "override"])
    assert (chat.alpha_scale, chat.override_min) == (None, None)
    assert effective(production, "chat").components[0].alpha == Decimal("0.25")


def test_an_inherited_arm_has_what_it_leaves_open_from_the_route(put, approved, second, production):
    put(revision=approved, arms=[ArmSpec("all", 1)])
    put(route="chat", revision=second)
    assert (effective(production, "chat").profile.revision, effective(production, "chat").arm) == (2, "all")


def test_a_route_that_is_off_does_not_fall_back_to_the_tenants_flag(put, approved, production):
    put(revision=approved)
    put(route="chat", enabled=False)
    assert effective(production, "chat").reason == "flag_off"
    assert effective(production, "mail").reason == "flag_on"


def test_a_route_whose_revision_is_retired_does_not_fall_back_either(put, approved, second, production, oscar):
    put(revision=approved)
    put(route="chat", revision=second)
    retire_revision(second.pk, reason="superseded", actor=oscar)
    assert effective(production, "chat").reason == "flag_off"
    assert effective(production).reason == "flag_on"


def test_the_tenants_flag_is_the_main_switch_of_its_routes(put, approved, production):
    put(revision=approved)
    put(route="chat", revision=approved)
    put(enabled=False)
    assert effective(production, "chat").reason == "no_flag"
    put(enabled=True)
    assert effective(production, "chat").reason == "flag_on"


def test_a_route_stands_alone_where_the_tenant_has_no_flag(put, approved, production):
    chat = put(route="chat", revision=approved)
    assert chat.inherits == []
    assert (effective(production, "chat").reason, effective(production).reason) == ("flag_on", "no_flag")


@pytest.mark.parametrize(
    ("route", "inherit", "stated"),
    [("", ["rollout"], {}), ("chat", ["mood"], {}), ("chat", ["rollout"], {"rollout": Decimal(5)})],
)
def test_inheriting_what_cannot_be_is_refused(put, approved, route, inherit, stated):
    put(revision=approved)
    before = TenantFlag.objects.count()
    with refused("FLAG_INHERITS"):
        put(route=route, inherit=inherit, **stated)
    assert TenantFlag.objects.count() == before


def test_a_route_has_nothing_to_inherit_from_a_tenant_without_a_flag(put, approved):
    with refused("FLAG_INHERITS"):
        put(route="chat", revision=approved, inherit=["rollout"])


# -- What is refused ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        ({"rollout": Decimal("100.001")}, "FLAG_ROLLOUT"),
        ({"rollout": Decimal("-1")}, "FLAG_ROLLOUT"),
        ({"rollout": Decimal("0.0001")}, "FLAG_ROLLOUT"),
        ({"rollout": Decimal("NaN")}, "FLAG_ROLLOUT"),
        ({"alpha_scale": Decimal("10.5")}, "ALPHA_RANGE"),
        ({"alpha_scale": Decimal("NaN")}, "ALPHA_RANGE"),
        ({"alpha_scale": Decimal("1.1")}, "ALPHA_RANGE"),
        ({"override": AlphaBounds(Decimal(0), Decimal("0.51"))}, "ALPHA_RANGE"),
        ({"override": AlphaBounds(Decimal("-0.1"), Decimal("0.5"))}, "ALPHA_RANGE"),
        ({"override": AlphaBounds(Decimal("0.4"), Decimal("0.3"))}, "FLAG_OVERRIDE"),
        ({"override": AlphaBounds(Decimal("0.0000001"), Decimal("0.3"))}, "ALPHA_FORMAT"),
        ({"arms": [ArmSpec("a", 0)]}, "FLAG_ARMS"),
        ({"arms": [ArmSpec("a", 1001)]}, "FLAG_ARMS"),
        ({"arms": [ArmSpec("", 1)]}, "FLAG_ARMS"),
        ({"arms": [ArmSpec("a", 1), ArmSpec("a", 1)]}, "FLAG_ARMS"),
        *(({"arms": [ArmSpec("a", 1), ArmSpec(name, 1)]}, "ARM_RESERVED") for name in ("off", "on", "OFF", "On", " off ", "oFF\t")),
        ({"arms": [ArmSpec(str(number), 1) for number in range(11)]}, "FLAG_ARMS"),
        ({"arms": [ArmSpec("a", 1, alpha_scale=Decimal("1.1"))]}, "ALPHA_RANGE"),
        ({"arms": [ArmSpec("a", 1, alpha_scale=Decimal("-0.5"))]}, "ALPHA_RANGE"),
    ],
)
def test_what_a_flag_cannot_mean_is_refused_and_nothing_is_applied(put, approved, production, stated, code):
    flag = put(revision=approved, arms=[ArmSpec("kept", 1)])
    before = head_snapshot(production)
    with refused(code):
        put(**stated)
    flag.refresh_from_db()
    assert (flag.version, [arm.name for arm in flag.arms.all()], head_snapshot(production)) == (1, ["kept"], before)


def test_every_arm_points_at_what_is_approved(put, approved, ada, component):
    draft = draft_revision(approved.profile, components=[component], author=ada)
    with refused("FLAG_NOT_APPROVED"):
        put(revision=approved, arms=[ArmSpec("now", 1), ArmSpec("next", 1, draft)])
    assert put(enabled=False, revision=approved, arms=[ArmSpec("next", 1, draft)]).enabled is False


def test_an_arm_that_may_steer_no_longer_keeps_its_callers_as_a_control(put, approved, second, production, oscar):
    put(revision=approved, arms=[ArmSpec("now", 1), ArmSpec("next", 1, second)])
    sides = {key: effective(production, key=key).arm for key in map(str, range(40))}
    assert set(sides.values()) == {"now", "next"}
    retire_revision(second.pk, reason="superseded", actor=oscar)
    for key, arm in sides.items():
        found = effective(production, key=key)
        assert (found.arm, found.reason) == (arm, "flag_on" if arm == "now" else "zero_scale")


def test_a_change_to_a_flag_that_is_not_the_one_read_is_refused(put, approved):
    flag = put(revision=approved)
    read = tag_flag(flag)
    put(alpha_scale=Decimal("0.5"), if_tag=read)
    with pytest.raises(RecordChanged, check=lambda error: error.code == "FLAG_CHANGED"):
        put(alpha_scale=Decimal("0.9"), if_tag=read)
    with pytest.raises(RecordChanged):
        put(route="chat", if_tag=read)
    assert TenantFlag.objects.get().alpha_scale == Decimal("0.5")


# -- History --------------------------------------------------------------------------------------------------------------------


def test_the_history_of_a_flag_says_who_when_why_and_what_became_different(put, approved, person):
    rita = person("rita", "operator")
    flag = put(revision=approved, reason="trial", arms=[ArmSpec("warm", 1)])
    put(rollout=Decimal(25), arms=[ArmSpec("warm", 9), ArmSpec("control", 1, alpha_scale=Decimal(0))], reason="wider", actor=rita)
    put(enabled=False, reason="complaint")
    off, wider, trial = read_changes(list(events_of(flag)))
    assert [(change.actor, change.reason) for change in (off, wider, trial)] == [
        ("oscar", "complaint"),
        ("rita", "wider"),
        ("oscar", "trial"),
    ]
    assert off.changes == ["enabled: yes → no"]
    assert sorted(wider.changes) == ["arms: warm: 1 part → warm: 9 parts, control: 1 part, α × 0", "rollout: 100 → 25"]
    assert trial.changes == []
    assert (trial.state["profile"], trial.state["revision"]) == ("harbor-empathy", 1)


def test_a_page_of_the_history_is_compared_with_what_came_before_it(put, approved):
    flag = put(revision=approved)
    for share in (10, 20):
        put(rollout=Decimal(share))
    assert read_changes(list(events_of(flag))[:1])[0].changes == ["rollout: 10 → 20"]


# -- Past the service -----------------------------------------------------------------------------------------------------------


def refuses(name: str):
    from django.db import IntegrityError

    return pytest.raises(IntegrityError, match=name)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"rollout": Decimal("100.5")}, "flag_rollout_is_a_share"),
        ({"rollout": Decimal(-1)}, "flag_rollout_is_a_share"),
        ({"rollout": None}, "flag_states_or_inherits_rollout"),
        ({"alpha_scale": None}, "flag_states_or_inherits_alpha_scale"),
        ({"revision": None}, "flag_states_or_inherits_revision"),
        ({"alpha_scale": Decimal(11)}, "flag_alpha_scale_is_between_0_and_10"),
        ({"override_min": Decimal(1)}, "flag_override_is_a_range"),
        ({"override_max": Decimal(1)}, "flag_override_is_a_range"),
        ({"override_min": Decimal(2), "override_max": Decimal(1)}, "flag_override_is_a_range"),
        ({"override_min": Decimal(-1001), "override_max": Decimal(1)}, "flag_override_is_a_range"),
        ({"inherits": ["rollout"], "rollout": None}, "flag_of_a_tenant_inherits_nothing"),
        ({"inherits": ["mood"], "route": "chat"}, "flag_inherits_fields_that_exist"),
        ({"inherits": ["rollout"], "route": "chat"}, "flag_states_or_inherits_rollout"),
        (
            {"inherits": ["override"], "route": "chat", "override_min": Decimal(0), "override_max": Decimal(1)},
            "flag_that_inherits_its_override_states_none",
        ),
    ],
)
def test_database_refuses_a_flag_that_breaks_a_rule(flag_on, change, name):
    with refuses(name):
        TenantFlag.objects.filter(pk=flag_on.pk).update(**change)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"weight": 0}, "arm_weight_is_between_1_and_1000"),
        ({"weight": 1001}, "arm_weight_is_between_1_and_1000"),
        ({"alpha_scale": Decimal(11)}, "arm_alpha_scale_is_between_0_and_10"),
        ({"alpha_scale": Decimal(-1)}, "arm_alpha_scale_is_between_0_and_10"),
        ({"position": 10}, "arm_is_one_of_ten"),
        ({"position": 0}, "arm_position_is_unique"),
        ({"name": ""}, "arm_has_a_name"),
        ({"name": "a"}, "arm_name_is_unique"),
    ],
)
def test_database_refuses_an_arm_that_breaks_a_rule(put, approved, change, name):
    flag = put(revision=approved, arms=[ArmSpec("a", 1), ArmSpec("b", 1)])
    with refuses(name):
        FlagArm.objects.filter(flag=flag, name="b").update(**change)
