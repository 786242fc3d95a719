"""What raises is planned in words and done only as planned; what lowers is not asked about."""

from decimal import Decimal

import pytest

from registry.errors import ConfirmationNeeded, TransitionRefused
from registry.manifests.kinds.raising import change_flag, change_served, describe_plan, plan_flag, plan_move
from registry.models import AuditEvent, Environment, EnvironmentBaseModel, Notification, TenantFlag
from registry.services.flags import ArmSpec, set_flag
from registry.services.kills import engage_kill
from steernode.snapshot.records import AlphaBounds
from tests.support.steering import reason_for


def refused(code: str, kind=TransitionRefused):
    return pytest.raises(kind, check=lambda error: error.code == code)


@pytest.fixture
def half(production, harbor, approved, oscar):
    """harbor at half of what was approved, for half of its callers."""
    stated = {"alpha_scale": Decimal("0.5"), "rollout": Decimal(50), "override": AlphaBounds(Decimal(0), Decimal("0.2"))}
    return set_flag(production, harbor, revision=approved, enabled=True, reason="go", actor=oscar, **stated)


@pytest.fixture
def change(production, harbor, oscar):
    """Change harbor's flag: change(alpha_scale=Decimal(1))."""

    def run(*, confirmed=None, enabled=True, **stated):
        return change_flag(production, harbor, enabled=enabled, reason="because", actor=oscar, confirmed=confirmed, **stated)

    return run


RAISES = [
    {"alpha_scale": Decimal(1)},
    {"rollout": Decimal(60)},
    {"override": AlphaBounds(Decimal(0), Decimal("0.3"))},
    {"route": "chat", "alpha_scale": Decimal("0.8")},
    {"arms": [ArmSpec("more", 1, alpha_scale=Decimal(1)), ArmSpec("none", 1, alpha_scale=Decimal(0))]},
]
LOWERS = [
    {"alpha_scale": Decimal("0.4")},
    {"rollout": Decimal(10)},
    {"override": None},
    {"enabled": False},
    {"enabled": None, "rollout": Decimal(0)},
    {"route": "chat", "alpha_scale": Decimal("0.1")},
    {"route": "chat", "enabled": False},
]


@pytest.mark.parametrize("stated", RAISES)
def test_what_raises_is_done_only_with_the_digest_of_its_plan(production, harbor, half, oscar, change, stated):
    events = AuditEvent.objects.count()
    with refused("CONFIRMATION_NEEDED", ConfirmationNeeded):
        change(**stated)
    plan = plan_flag(production, harbor, actor=oscar, **{"enabled": True, **stated})
    assert plan.raises
    assert AuditEvent.objects.count() == events
    assert TenantFlag.objects.get().version == half.version
    with refused("PLAN_STALE"):
        change(**stated, confirmed="0" * 64)
    change(**stated, confirmed=plan.digest)
    assert AuditEvent.objects.filter(action="flag.changed").count() == 2


@pytest.mark.parametrize("stated", LOWERS)
def test_what_lowers_is_never_asked_about(production, harbor, half, oscar, change, stated):
    assert plan_flag(production, harbor, actor=oscar, **{"enabled": True, **stated}).raises == ""
    assert change(**stated).reason == "because"


def test_turning_on_says_who_is_steered_anew(production, harbor, approved, oscar, node):
    set_flag(production, harbor, revision=approved, enabled=False, reason="ready", actor=oscar)
    plan = plan_flag(production, harbor, enabled=True, actor=oscar)
    assert (plan.raises, plan.newly_steered, plan.nodes) == ("harbor would get steering, and gets none", ("harbor",), 1)
    lines = describe_plan(plan)
    assert "enabled: False → True" in lines
    assert "harbor is not steered in production now, and would be" in lines
    assert lines[-1] == "newly steered: harbor; 1 node hears of it"


def test_what_a_kill_holds_back_is_raised_all_the_same(production, harbor, half, oscar, change):
    engage_kill("everything", reason="x", actor=oscar)
    with refused("CONFIRMATION_NEEDED", ConfirmationNeeded):
        change(alpha_scale=Decimal(1))


def test_a_plan_of_another_state_is_stale(production, harbor, half, oscar, change):
    plan = plan_flag(production, harbor, enabled=True, alpha_scale=Decimal(1), actor=oscar)
    set_flag(production, harbor, enabled=True, reason="less", actor=oscar, alpha_scale=Decimal("0.4"))
    with refused("PLAN_STALE"):
        change(alpha_scale=Decimal(1), confirmed=plan.digest)
    assert TenantFlag.objects.get().alpha_scale == Decimal("0.4")


def test_a_plan_is_of_one_change_and_no_larger_one(production, harbor, half, oscar, change):
    plan = plan_flag(production, harbor, enabled=True, alpha_scale=Decimal("0.6"), actor=oscar)
    with refused("PLAN_STALE"):
        change(alpha_scale=Decimal(1), confirmed=plan.digest)


def test_a_plan_is_used_once(production, harbor, half, oscar, change):
    plan = plan_flag(production, harbor, enabled=True, alpha_scale=Decimal(1), actor=oscar)
    change(alpha_scale=Decimal(1), confirmed=plan.digest)
    change(alpha_scale=Decimal("0.5"))
    with refused("PLAN_STALE"):
        change(alpha_scale=Decimal(1), confirmed=plan.digest)


def test_a_plan_is_refused_as_the_change_would_be(production, harbor, submitted, oscar):
    with refused("FLAG_NOT_APPROVED"):
        plan_flag(production, harbor, revision=submitted, enabled=True, actor=oscar)
    assert not TenantFlag.objects.exists()


def test_a_move_says_what_goes_and_takes_its_digest(flag_on, production, new_files, base_model, oscar):
    before = (AuditEvent.objects.count(), Notification.objects.count(), Environment.objects.get().head_revision)
    plan = plan_move(production, base_model=new_files, actor=oscar)
    lines = describe_plan(plan)
    assert "turns off 1 flag, and none comes back by itself: production/harbor" in lines
    assert "invalidates 1 revision for good: harbor-empathy r1" in lines
    assert lines[-1].startswith("newly steered: nobody")
    assert (AuditEvent.objects.count(), Notification.objects.count(), Environment.objects.get().head_revision) == before
    with refused("CONFIRMATION_NEEDED", ConfirmationNeeded):
        change_served(production, base_model=new_files, reason="x", actor=oscar)
    assert reason_for(production, "harbor") == "flag_on"
    assert change_served(production, base_model=new_files, reason="x", actor=oscar, confirmed=plan.digest).previous == base_model
    assert b'"reason":"x"' in bytes(AuditEvent.objects.filter(action="environment.moved").order_by("-seq")[0].body)


def test_a_move_whose_losses_grew_is_planned_anew(flag_on, production, atlas, approved, new_files, oscar):
    plan = plan_move(production, base_model=new_files, actor=oscar)
    set_flag(production, atlas, revision=approved, enabled=True, alpha_scale=Decimal(1), reason="more", actor=oscar)
    with refused("PLAN_STALE"):
        change_served(production, base_model=new_files, reason="x", actor=oscar, confirmed=plan.digest)


def test_serving_a_name_for_the_first_time_is_confirmed_too_and_a_move_to_what_is_served_is_none(production, base_model, oscar):
    EnvironmentBaseModel.objects.all().delete()
    plan = plan_move(production, base_model=base_model, actor=oscar)
    assert "begins to serve harbor-support" in "".join(describe_plan(plan))
    change_served(production, base_model=base_model, reason="pilot", actor=oscar, confirmed=plan.digest)
    assert plan_move(production, base_model=base_model, actor=oscar).raises == ""
    change_served(production, base_model=base_model, reason="again", actor=oscar)
