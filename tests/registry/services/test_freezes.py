"""A freeze window refuses what raises steering, and nothing else. A kill of one environment, and the two people of a lift."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from registry.audit import Action
from registry.errors import InvalidInput, NotFound, TransitionRefused
from registry.models import AuditEvent, Freeze, Kill
from registry.reads.steering import freeze_in_force, head_snapshot
from registry.services.flags import ArmSpec, set_flag
from registry.services.freezes import declare_freeze, end_freeze
from registry.services.kills import confirm_lift, engage_kill, request_lift
from registry.services.profiles import retire_revision
from registry.services.tenants import create_environment, reissue_before_expiry
from registry.services.transition import all_or_nothing
from registry.snapshots import publish, read_head
from steernode.snapshot.records import AlphaBounds
from steernode.snapshot.resolve import resolve


@pytest.fixture
def put(production, harbor, approved, oscar, known_salt):
    def change(tenant=harbor, **stated):
        return set_flag(production, tenant, **{"enabled": True, "reason": "test", "actor": oscar, **stated})

    return change


@pytest.fixture
def frozen(put, approved, production, oscar):
    """harbor is steered at half, for half, when production is frozen for an hour."""
    put(revision=approved, alpha_scale=Decimal("0.5"), rollout=Decimal(50), override=AlphaBounds(Decimal("0.1"), Decimal("0.3")))
    return declare_freeze(production, ends_at=timezone.now() + timedelta(hours=1), reason="Black Friday", actor=oscar)


def reason_for(environment, tenant: str = "harbor", key: str = "user-2") -> str:
    return resolve(read_head(environment)[1], tenant, "", key=key).reason


def refused(code: str):
    return pytest.raises((TransitionRefused, InvalidInput, NotFound), check=lambda error: error.code == code)


@pytest.mark.parametrize(
    "stated",
    [
        {"alpha_scale": Decimal("0.6")},
        {"rollout": Decimal(51)},
        {"override": AlphaBounds(Decimal("0.1"), Decimal("0.4"))},
        {"arms": [ArmSpec("now", 1), ArmSpec("more", 1, alpha_scale=Decimal(1))]},
        {"route": "chat", "rollout": Decimal(100)},
    ],
)
def test_a_freeze_refuses_what_raises_and_says_until_when(frozen, put, production, stated):
    before = head_snapshot(production)
    with refused("FREEZE") as caught:
        put(**stated)
    assert f"until {frozen.ends_at:%Y-%m-%d %H:%M} UTC (Black Friday)" in caught.value.message
    assert "harbor" in caught.value.message
    assert head_snapshot(production) == before
    assert not AuditEvent.objects.filter(action=Action.FLAG_CHANGED).exclude(object_version=1).exists()


@pytest.mark.parametrize(
    "stated",
    [
        {"alpha_scale": Decimal("0.4")},
        {"rollout": Decimal(49)},
        {"override": None},
        {"override": AlphaBounds(Decimal("0.2"), Decimal("0.3"))},
        {"enabled": False},
        {"route": "chat", "enabled": False},
        {"route": "chat", "rollout": Decimal(0)},
    ],
)
def test_lowering_passes_a_freeze(frozen, put, stated):
    put(**stated)


def test_turning_on_is_refused_even_where_it_was_on_before_the_window(frozen, put):
    put(enabled=False)
    with refused("FREEZE"):
        put(enabled=True)


def test_a_kill_passes_a_freeze_and_its_lift_waits_for_the_end(frozen, production, oscar, grace):
    kill = engage_kill("tenant", target="harbor", reason="complaint", actor=oscar)
    assert reason_for(production) == "killed_tenant"
    request_lift(kill.pk, reason="found", actor=oscar)
    with refused("FREEZE"):
        confirm_lift(kill.pk, actor=grace)
    end_freeze(frozen.pk, reason="over early", actor=grace)
    confirm_lift(kill.pk, actor=grace)
    assert reason_for(production) == "flag_on"


def test_retiring_passes_a_freeze(frozen, approved, production, oscar):
    retire_revision(approved.pk, reason="harm", actor=oscar)
    assert reason_for(production) == "no_flag"


def test_a_batch_that_raises_is_refused_whole(frozen, put, production, harbor, atlas, approved, oscar):
    before = head_snapshot(production)
    with refused("FREEZE"), all_or_nothing(cause=Action.FLAG_CHANGED, actor=oscar):
        put(alpha_scale=Decimal("0.1"))
        put(tenant=atlas, revision=approved)
    assert head_snapshot(production) == before
    assert production.flags.get().alpha_scale == Decimal("0.5")


def test_a_freeze_is_of_one_environment(frozen, harbor, approved, oscar):
    staging = create_environment("staging", actor=oscar)
    set_flag(staging, harbor, revision=approved, enabled=True, reason="go", actor=oscar)
    assert reason_for(staging) == "flag_on"


def test_a_kill_and_an_off_switch_ask_no_freeze_at_all(frozen, put, oscar, monkeypatch):
    """Whatever a comparison of snapshots would say, or fail on, they must not wait for it."""

    def broken(*_: object) -> str:
        raise AssertionError("a freeze was asked")

    monkeypatch.setattr(publish, "find_increase", broken)
    put(enabled=False)
    engage_kill("everything", reason="now", actor=oscar)


def test_a_batch_of_them_asks_none_either_and_any_other_step_does(frozen, put, oscar, monkeypatch):
    asked = []
    monkeypatch.setattr(publish, "find_increase", lambda *_: asked.append("a freeze"))
    with all_or_nothing(cause=Action.MANIFESTS_APPLIED, actor=oscar):
        put(enabled=False)
        engage_kill("tenant", target="harbor", reason="now", actor=oscar)
    assert asked == []
    with all_or_nothing(cause=Action.MANIFESTS_APPLIED, actor=oscar):
        put(enabled=True)
        engage_kill("everything", reason="now", actor=oscar)
    assert asked == ["a freeze"]


def test_a_quiet_environment_is_signed_again_in_a_freeze(frozen, production, monkeypatch):
    head = head_snapshot(production)
    Freeze.objects.update(ends_at=head.expires_at)
    later = head.issued_at + (head.expires_at - head.issued_at) * 0.6
    monkeypatch.setattr(publish.timezone, "now", lambda: later)
    assert freeze_in_force(production, later) is not None
    again = reissue_before_expiry("production")
    assert (again.revision, again.content_digest) == (head.revision + 1, head.content_digest)


# -- Windows --------------------------------------------------------------------------------------------------------------------


def test_a_planned_window_holds_nothing_until_it_starts(put, approved, production, oscar):
    now = timezone.now()
    freeze = declare_freeze(production, starts_at=now + timedelta(hours=1), ends_at=now + timedelta(hours=2), reason="x", actor=oscar)
    put(revision=approved)
    assert [freeze.state_at(now + timedelta(hours=hours)) for hours in (0, 1, 2)] == ["planned", "in force", "over"]


def test_the_window_that_ends_last_is_the_one_named(frozen, put, production, oscar):
    declare_freeze(production, ends_at=timezone.now() + timedelta(days=2), reason="the longer one", actor=oscar)
    with refused("FREEZE") as caught:
        put(rollout=Decimal(60))
    assert "the longer one" in caught.value.message


@pytest.mark.parametrize(
    ("starts", "ends"),
    [
        (None, timedelta(0)),
        (timedelta(hours=2), timedelta(hours=1)),
        (None, timedelta(days=400)),
        (timedelta(days=400), timedelta(days=401)),
    ],
)
def test_a_window_that_is_none_is_refused(production, oscar, starts, ends):
    now = timezone.now()
    with refused("FREEZE_WINDOW"):
        declare_freeze(production, starts_at=None if starts is None else now + starts, ends_at=now + ends, reason="x", actor=oscar)
    assert not Freeze.objects.exists()


def test_a_window_is_ended_once_and_on_record(frozen, grace):
    end_freeze(frozen.pk, reason="all quiet", actor=grace)
    with refused("FREEZE_STATE"):
        end_freeze(frozen.pk, reason="again", actor=grace)
    event = AuditEvent.objects.get(action=Action.FREEZE_ENDED)
    assert (event.actor_name, event.environment) == ("grace", "production")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"ends_at": timezone.now() - timedelta(days=1)}, "freeze_ends_after_it_starts"),
        ({"ended_at": timezone.now()}, "freeze_that_was_ended_says_by_whom_and_why"),
        ({"ended_reason": "x"}, "freeze_that_was_ended_says_by_whom_and_why"),
    ],
)
def test_database_refuses_a_freeze_that_breaks_a_rule(frozen, change, name):
    with pytest.raises(IntegrityError, match=name):
        Freeze.objects.filter(pk=frozen.pk).update(**change)


# -- Kills of one environment, and their lift -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "target"), [("tenant", "harbor"), ("profile", "harbor-empathy")])
def test_a_kill_may_be_for_one_environment(put, approved, production, harbor, oscar, grace, kind, target):
    staging = create_environment("staging", actor=oscar)
    put(revision=approved)
    set_flag(staging, harbor, revision=approved, enabled=True, reason="go", actor=oscar)
    kill = engage_kill(kind, target=target, environment="production", reason="here only", actor=oscar)
    assert (reason_for(production), reason_for(staging)) == (f"killed_{kind}", "flag_on")
    assert str(kill) == f"{kind} {target} in production"
    everywhere = engage_kill(kind, target=target, reason="everywhere", actor=oscar)
    assert everywhere.pk != kill.pk
    assert (reason_for(production), reason_for(staging)) == (f"killed_{kind}", f"killed_{kind}")
    request_lift(everywhere.pk, reason="found", actor=oscar)
    confirm_lift(everywhere.pk, actor=grace)
    assert (reason_for(production), reason_for(staging)) == (f"killed_{kind}", "flag_on")


@pytest.mark.parametrize(
    ("kind", "target", "environment"),
    [("tenant", "harbor", "nowhere"), ("tenant", "nobody", ""), ("environment", "production", "staging"), ("everything", "", "production")],
)
def test_a_kill_of_what_is_not_there_is_refused(production, harbor, oscar, kind, target, environment):
    with refused("KILL_TARGET"):
        engage_kill(kind, target=target, environment=environment, reason="x", actor=oscar)
    assert not Kill.objects.exists()


@pytest.fixture
def kill(harbor, production, oscar):
    kill = engage_kill("tenant", target="harbor", reason="complaint", actor=oscar)
    return request_lift(kill.pk, reason="found", actor=oscar)


def test_database_knows_that_a_service_account_is_its_person(kill, oscar, person):
    robot = person("oscar-robot", "operator", acts_for=oscar)
    other = person("oscar-robot-2", "operator", acts_for=oscar)
    for requested, lifted in ((oscar, robot), (robot, oscar), (robot, other)):
        with pytest.raises(IntegrityError, match="kill_is_lifted_by_two_people"), transaction.atomic():
            Kill.objects.filter(pk=kill.pk).update(lift_requested_by=requested, lifted_by=lifted, lifted_at=timezone.now())


def test_database_refuses_to_change_or_delete_what_is_killed(kill, atlas, oscar, grace):
    for change in ({"tenant": atlas}, {"engaged_by": grace}):
        with pytest.raises(IntegrityError, match="kill_never_changes_its_target"), transaction.atomic():
            Kill.objects.filter(pk=kill.pk).update(**change)
    with pytest.raises(IntegrityError, match="kill_is_never_deleted"), transaction.atomic():
        kill.delete()
    confirm_lift(kill.pk, actor=grace)
    with pytest.raises(IntegrityError, match="kill_never_changes_its_target"), transaction.atomic():
        Kill.objects.filter(pk=kill.pk).update(lifted_at=None, lifted_by=None)
