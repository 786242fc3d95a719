"""One flag's page, and everything a flag, a freeze and a kill can be told in the console."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given, settings

from registry.console import environment_flags as flags_page
from registry.models import Freeze, Kill, TenantFlag
from registry.services.flags import ArmSpec, set_flag
from registry.services.freezes import declare_freeze
from registry.services.kills import engage_kill
from registry.snapshots import count_steering
from steernode.snapshot.records import AlphaBounds
from steernode.snapshot.resolve import resolve
from tests.support.confirming import send
from tests.support.snapshots import contents, make_snapshot

FLAGS = "/console/flags/production/"
PAGE = "/console/flags/production/tenants/harbor/"


def post(client, **data):
    return send(client, reverse("console:set-flag", args=["production"]), {"reason": "test", **data}, follow=True)


def test_a_flag_gets_a_share_arms_and_bounds(as_person, oscar, production, harbor, approved):
    arms = "warm=9\ncontrol=1,x0\nagain=1,harbor-empathy@1"
    data = {"tenant": harbor.pk, "revision": approved.pk, "enabled": "on", "rollout": "12.5", "arms": arms, "override": "0:0.5"}
    page = post(as_person(oscar), **data)
    flag = TenantFlag.objects.get()
    assert (flag.rollout, flag.override_max) == (Decimal("12.5"), Decimal("0.5"))
    assert [(arm.name, arm.weight, arm.alpha_scale) for arm in flag.arms.all()] == [
        ("warm", 9, None),
        ("control", 1, 0),
        ("again", 1, None),
    ]
    for words in ("for 12.5 % of callers", "warm: 9 of callers", "requests may ask for α 0 to 0.5"):
        assert words in page.text


def test_what_is_left_empty_stays_and_none_takes_away(as_person, oscar, production, harbor, approved):
    stated = {"rollout": Decimal(20), "arms": [ArmSpec("warm", 1)], "override": AlphaBounds(Decimal(0), Decimal("0.5"))}
    set_flag(production, harbor, revision=approved, enabled=True, reason="go", actor=oscar, **stated)
    post(as_person(oscar), tenant=harbor.pk, enabled="on")
    flag = TenantFlag.objects.get()
    assert (flag.rollout, flag.arms.count(), flag.override_max) == (20, 1, Decimal("0.5"))
    post(as_person(oscar), tenant=harbor.pk, enabled="on", arms="none", override="none")
    flag.refresh_from_db()
    assert (flag.arms.count(), flag.override_max) == (0, None)


def test_one_button_turns_off_and_touches_nothing_else(as_person, oscar, production, harbor, approved):
    set_flag(production, harbor, revision=approved, enabled=True, reason="go", actor=oscar, alpha_scale=Decimal("0.3"), rollout=Decimal(20))
    switch = reverse("console:switch-flag", args=["production"])
    page = as_person(oscar).post(switch, {"tenant": harbor.pk, "route": "", "reason": "complaint"}, follow=True)
    flag = TenantFlag.objects.get()
    assert (flag.enabled, flag.alpha_scale, flag.rollout) == (False, Decimal("0.3"), 20)
    assert "harbor is off." in page.text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"rollout": "101"}, "FLAG_ROLLOUT"),
        ({"rollout": "NaN"}, "ALPHA_FORMAT"),
        ({"arms": "warm"}, "is not NAME=WEIGHT"),
        ({"arms": "warm=1,nobody@1"}, "REVISION_NOT_FOUND"),
        ({"arms": "warm=1,x1e9"}, "ALPHA_FORMAT"),
        ({"arms": "a=1\na=1"}, "FLAG_ARMS"),
        ({"override": "0.6"}, "is not LEAST:MOST"),
        ({"override": "0:0.6"}, "ALPHA_RANGE"),
        ({"inherit": ["rollout"]}, "FLAG_INHERITS"),
        ({"inherit": ["mood"]}, "not one of the available choices"),
        ({"read_as": "another-1"}, "FLAG_CHANGED"),
    ],
)
def test_a_flag_that_means_nothing_is_refused_with_words(as_person, oscar, flag_on, harbor, data, words):
    page = post(as_person(oscar), tenant=harbor.pk, enabled="on", **data)
    assert words in page.text
    assert TenantFlag.objects.get().version == 1


def test_the_page_of_a_flag_explains_a_request_and_shows_who_changed_what(as_person, iris, oscar, production, harbor, flag_on, known_salt):
    set_flag(production, harbor, enabled=True, reason="<script>alert(1)</script>", actor=oscar, rollout=Decimal(50))
    text = as_person(iris).get(PAGE, {"key": "user-1"}).text
    assert "58.991 %, the share is 50 %" in text
    assert ">not_in_rollout<" in text
    assert "rollout: 100 → 50" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert(1)" not in text
    assert reverse("console:set-flag", args=["production"]) not in text
    steered = as_person(oscar).get(PAGE, {"key": "user-2"}).text
    assert "harbor-empathy r1" in steered
    assert "Change the flag" in steered


def test_the_page_of_a_flag_is_filled_in_with_what_it_states(as_person, oscar, production, harbor, approved):
    arms = [ArmSpec("now", 1), ArmSpec("next", 1, approved, Decimal("0.5"))]
    set_flag(production, harbor, revision=approved, enabled=True, reason="go", actor=oscar, arms=arms, rollout=Decimal("12.5"))
    set_flag(production, harbor, route="chat", enabled=True, reason="softer", actor=oscar, alpha_scale=Decimal("0.5"))
    client = as_person(oscar)
    form = client.get(PAGE).context["form"]
    assert (form.initial["arms"], form.initial["rollout"]) == ("now=1\nnext=1,harbor-empathy@1,x0.5", "12.5")
    # Sent back as it stands, it changes nothing but the reason.
    data = {name: value for name, value in form.initial.items() if value not in (None, False)} | {"reason": "looked"}
    client.post(reverse("console:set-flag", args=["production"]), data)
    flag = TenantFlag.objects.get(route="")
    assert (flag.version, flag.arms.count(), flag.rollout, flag.reason) == (2, 2, Decimal("12.5"), "looked")
    route = client.get(PAGE, {"route": "chat"}).context["form"].initial
    assert (route["inherit"], route["arms"], route["alpha_scale"]) == (["revision", "rollout", "arms", "override"], "", "0.5")


def test_a_route_shows_what_it_has_from_its_tenant(as_person, oscar, production, harbor, flag_on):
    set_flag(production, harbor, route="chat", enabled=True, reason="softer", actor=oscar, alpha_scale=Decimal("0.5"))
    text = as_person(oscar).get(FLAGS).text
    assert "from the tenant&#x27;s flag: revision, rollout, arms, override" in text
    set_flag(production, harbor, enabled=False, reason="stop", actor=oscar)
    assert "off with the tenant" in as_person(oscar).get(FLAGS).text


@pytest.mark.parametrize("killed", ["harbor-empathy", "harbor-brevity"])
def test_a_kill_of_one_arms_profile_leaves_the_flag_on_and_says_which_arm(
    as_person, oscar, production, harbor, approved, also_approved, killed
):
    arms = [ArmSpec("warm", 1), ArmSpec("short", 1, also_approved)]
    set_flag(production, harbor, revision=approved, enabled=True, reason="go", actor=oscar, arms=arms)
    engage_kill("profile", target=killed, reason="stop", actor=oscar)
    text = as_person(oscar).get(FLAGS).text
    assert ">on<" in text
    for name in ("harbor-empathy", "harbor-brevity"):
        assert (f"{name} r1 × 1, killed" in text) == (name == killed)
    assert count_steering(production) == 1
    engage_kill("profile", target={"harbor-empathy", "harbor-brevity"}.difference([killed]).pop(), reason="stop", actor=oscar)
    assert ">killed<" in as_person(oscar).get(FLAGS).text
    assert count_steering(production) == 0


@pytest.mark.parametrize(
    ("stated", "words"),
    [({"rollout": Decimal(0)}, "on for nobody"), ({"alpha_scale": Decimal(0)}, "on at α scale 0")],
)
def test_a_flag_that_steers_nobody_is_not_shown_as_one_that_does(as_person, oscar, production, harbor, approved, stated, words):
    set_flag(production, harbor, revision=approved, enabled=True, reason="go", actor=oscar, **stated)
    assert f">{words}<" in as_person(oscar).get(FLAGS).text
    assert count_steering(production) == 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=contents())
def test_a_flag_is_shown_as_on_exactly_if_nodes_steer_somebody_by_it(production, harbor, flag_on, monkeypatch, content):
    """Whatever a snapshot may say of a flag that is on in the record."""
    snapshot = make_snapshot(*content[0], kills=content[1])
    monkeypatch.setattr(flags_page, "read_heads", lambda environments: {"production": snapshot})
    decides = snapshot.flag_for("harbor", "")
    bounds = decides.override if decides else None
    asked = (None, bounds.alpha_min, bounds.alpha_max) if bounds else (None,)
    gets = [resolve(snapshot, "harbor", "", key=f"user-{number}", alpha=alpha) for number in range(200) for alpha in asked]
    (view,) = flags_page.view_flags(production, [harbor])
    assert (view.effect == "on") == any(effective.profile for effective in gets)
    if view.effect == "killed":
        assert any(effective.killed_by for effective in gets)


def test_a_page_for_nobody_and_a_question_that_is_none_are_told(as_person, iris, flag_on):
    client = as_person(iris)
    assert "TENANT_NOT_FOUND" in client.get(PAGE.replace("harbor", "nobody"), follow=True).text
    assert "ENVIRONMENT_NOT_FOUND" in client.get(PAGE.replace("production", "nowhere"), follow=True).text
    assert "ALPHA_FORMAT" in client.get(PAGE, {"alpha": "0,5"}).text


# -- Freezes and kills ----------------------------------------------------------------------------------------------------------


def test_a_freeze_is_declared_shown_and_ended(as_person, oscar, grace, production, harbor, flag_on):
    until = (timezone.now() + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M")
    here = reverse("console:declare-freeze", args=["production"])
    page = as_person(oscar).post(here, {"ends_at": until, "reason": "Black Friday"}, follow=True)
    assert "Frozen until" in page.text
    assert "Black Friday" in page.text
    set_flag(production, harbor, enabled=False, reason="x", actor=oscar)
    refused = post(as_person(oscar), tenant=harbor.pk, enabled="on")
    assert "FREEZE" in refused.text
    freeze = Freeze.objects.get()
    as_person(grace).post(reverse("console:end-freeze", args=[freeze.pk]), {"reason": "all quiet"})
    freeze.refresh_from_db()
    assert (freeze.ended_by, freeze.ended_reason) == (grace, "all quiet")


def test_an_auditor_neither_freezes_nor_ends_a_freeze(as_person, iris, oscar, production):
    freeze = declare_freeze(production, ends_at=timezone.now() + timedelta(hours=1), reason="x", actor=oscar)
    client = as_person(iris)
    assert client.post(reverse("console:declare-freeze", args=["production"]), {"reason": "x"}).status_code == 403
    assert client.post(reverse("console:end-freeze", args=[freeze.pk]), {"reason": "x"}).status_code == 403
    assert (
        "FREEZE_WINDOW"
        in as_person(oscar)
        .post(reverse("console:declare-freeze", args=["production"]), {"reason": "x", "ends_at": "2020-01-01T00:00"}, follow=True)
        .text
    )


def test_a_kill_may_be_for_one_environment(as_person, oscar, flag_on):
    client = as_person(oscar)
    client.post(reverse("console:engage-kill"), {"target": "tenant:harbor", "environment": "production", "reason": "here"})
    assert str(Kill.objects.get()) == "tenant harbor in production"
    assert "in production" in client.get(reverse("console:kills")).text


def test_where_is_no_question_for_a_kill_of_everything(as_person, oscar, flag_on):
    """A choice made in haste must not turn an emergency into a form error."""
    as_person(oscar).post(reverse("console:engage-kill"), {"target": "everything:", "environment": "production", "reason": "now"})
    assert Kill.objects.get().environment is None
