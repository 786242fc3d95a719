"""A kill again, and the request for a lift: its reason, its end, its way back, and that it counts only while its author may."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from registry.errors import InvalidInput, TransitionRefused
from registry.models import AuditEvent, Kill, Notification
from registry.reads.lifts import LiftStanding, lift_standing
from registry.services.kills import confirm_lift, engage_kill, request_lift, withdraw_lift
from registry.services.people import change_access
from tests.support.refusals import refuses
from tests.support.steering import reason_for


def refused(code: str):
    return pytest.raises(TransitionRefused, check=lambda error: error.code == code)


@pytest.fixture
def olga(person):
    """The other operator."""
    return person("olga", "operator")


@pytest.fixture
def kill(flag_on, oscar):
    return engage_kill("tenant", target="harbor", reason="first incident", actor=oscar)


@pytest.fixture
def asked(kill, olga):
    """olga asks for the lift."""
    return request_lift(kill.pk, reason="all answers read", actor=olga)


def grow_old(kill: Kill, age: timedelta) -> None:
    Kill.objects.filter(pk=kill.pk).update(lift_requested_at=timezone.now() - age)


def test_a_second_kill_is_an_event_of_its_own_and_withdraws_the_lift(production, asked, grace, oscar, olga):
    again = engage_kill("tenant", target="harbor", reason="second incident", actor=grace)
    assert (again.pk, again.reason, again.engaged_by, again.lift_requested_by) == (asked.pk, "first incident", oscar, None)
    events = AuditEvent.objects.filter(object_id=str(asked.pk)).order_by("-seq")[:2]
    assert [(event.action, event.actor_name) for event in events] == [("kill.lift_withdrawn", "grace"), ("kill.engaged_again", "grace")]
    assert "second incident" in Notification.objects.get(person=olga).text
    with refused("KILL_LIFT_NEEDS_TWO"):
        confirm_lift(asked.pk, actor=oscar)
    assert reason_for(production, "harbor") == "killed_tenant"


def test_a_kill_again_without_a_request_withdraws_none(kill, grace):
    engage_kill("tenant", target="harbor", reason="second incident", actor=grace)
    assert AuditEvent.objects.order_by("-seq").first().action == "kill.engaged_again"


def test_a_kill_of_something_else_leaves_the_request_as_it_is(asked, grace):
    engage_kill("everything", reason="more than that", actor=grace)
    engage_kill("tenant", target="harbor", environment="production", reason="here too", actor=grace)
    assert lift_standing(Kill.objects.get(pk=asked.pk)) == LiftStanding.PENDING


def test_a_kill_again_withdraws_every_lift_of_its_target(asked, node, grace, oscar, olga):
    lost = Kill.objects.create(
        kind="tenant", target="harbor", reason="before", issuer="hub", statement_digest="a" * 64, reported_by=node[0]
    )
    request_lift(lost.pk, reason="all answers read", actor=olga)
    engage_kill("tenant", target="harbor", reason="second incident", actor=grace)
    for kill in (asked, lost):
        with refused("KILL_LIFT_NEEDS_TWO"):
            confirm_lift(kill.pk, actor=oscar)


def test_a_lift_is_asked_for_with_a_reason(kill, olga):
    with pytest.raises(InvalidInput, check=lambda error: error.code == "LIFT_REASON"):
        request_lift(kill.pk, reason=" \n", actor=olga)
    with refuses("kill_lift_is_asked_for_by_somebody_for_a_reason"):
        Kill.objects.filter(pk=kill.pk).update(lift_requested_by=olga, lift_requested_at=timezone.now())


def test_a_request_that_is_a_day_old_lifts_nothing(production, asked, oscar, olga):
    grow_old(asked, timedelta(hours=24, seconds=1))
    with refused("LIFT_EXPIRED"):
        confirm_lift(asked.pk, actor=oscar)
    with refuses("kill_lift_is_confirmed_while_the_request_lasts"), transaction.atomic():
        Kill.objects.filter(pk=asked.pk).update(lifted_by=oscar, lifted_at=timezone.now())
    request_lift(asked.pk, reason="still so", actor=olga)
    confirm_lift(asked.pk, actor=oscar)
    assert reason_for(production, "harbor") == "flag_on"


@pytest.mark.parametrize("who", ["olga", "grace"])
def test_one_person_takes_a_request_back(asked, who, request, oscar):
    kill = withdraw_lift(asked.pk, reason="not yet", actor=request.getfixturevalue(who))
    assert (kill.lift_requested_by, kill.lift_requested_at, kill.lift_reason) == (None, None, "")
    with refused("KILL_LIFT_NEEDS_TWO"):
        confirm_lift(asked.pk, actor=oscar)
    with refused("LIFT_NOT_REQUESTED"):
        withdraw_lift(asked.pk, actor=oscar)


@pytest.mark.parametrize("change", [{"is_active": False}, {"roles": ["author", "auditor"]}, {"tenants": ["atlas"]}])
def test_a_request_counts_only_while_its_author_may(production, asked, atlas, olga, oscar, root, change):
    access = {"roles": ["operator"], "tenants": None, "is_active": True} | change
    if access["tenants"]:
        access["tenants"] = [atlas]
    change_access(olga, **access, actor=root)
    with refused("LIFT_AUTHOR_LEFT"):
        confirm_lift(asked.pk, actor=oscar)
    assert reason_for(production, "harbor") == "killed_tenant"
    change_access(olga, roles=["operator"], tenants=[asked.tenant], is_active=True, actor=root)
    confirm_lift(asked.pk, actor=oscar)
    assert reason_for(production, "harbor") == "flag_on"


def test_whoever_is_limited_to_a_tenant_now_lifts_nothing_that_reaches_others(kill, harbor, olga, oscar, root):
    everything = engage_kill("everything", reason="x", actor=oscar)
    request_lift(everything.pk, reason="enough", actor=olga)
    change_access(olga, roles=["operator"], tenants=[harbor], is_active=True, actor=root)
    with refused("LIFT_AUTHOR_LEFT"):
        confirm_lift(everything.pk, actor=oscar)


def test_a_service_account_leaves_with_its_person(kill, olga, oscar, person, root):
    request_lift(kill.pk, reason="enough", actor=person("olga-robot", "operator", acts_for=olga))
    change_access(olga, roles=["operator"], tenants=None, is_active=False, actor=root)
    with refused("LIFT_AUTHOR_LEFT"):
        confirm_lift(kill.pk, actor=oscar)


@pytest.mark.parametrize("change", [{"roles": ["auditor"], "is_active": True}, {"roles": ["operator"], "is_active": False}])
def test_database_refuses_a_lift_asked_for_by_one_who_left(asked, olga, oscar, root, change):
    change_access(olga, tenants=None, **change, actor=root)
    with pytest.raises(IntegrityError, match="kill_lift_was_asked_for_by_one_who_still_may"), transaction.atomic():
        Kill.objects.filter(pk=asked.pk).update(lifted_by=oscar, lifted_at=timezone.now())
