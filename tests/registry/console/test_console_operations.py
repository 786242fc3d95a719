"""Flags, kills and the fleet, by the people who operate."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from registry.models import Environment, Kill, ServingNode, StopStatement, Tenant, TenantFlag
from registry.services.nodes import withdraw_node
from tests.support.confirming import send
from tests.support.nodes import enroll, say


def set_flag(client, environment, tenant, revision, **changes):
    data = {"tenant": tenant.pk, "route": "", "revision": revision.pk, "alpha_scale": "1", "enabled": "on", "reason": "pilot", **changes}
    path = reverse("console:set-flag", args=[environment.name])
    return send(client, path, {name: value for name, value in data.items() if value is not None}, follow=True)


def test_an_operator_flags_an_approved_revision_for_a_tenant(as_person, oscar, production, harbor, approved):
    before = Environment.objects.get().head_revision
    page = set_flag(as_person(oscar), production, harbor, approved, alpha_scale="0.8")
    assert "harbor is on at α scale 0.8." in page.text
    flag = TenantFlag.objects.get()
    assert (flag.enabled, str(flag.alpha_scale.normalize()), flag.changed_by) == (True, "0.8", oscar)
    assert Environment.objects.get().head_revision == before + 1


def test_an_operator_turns_a_flag_off_with_one_button(as_person, oscar, flag_on, production, harbor, approved):
    assert "Turn off" in as_person(oscar).get(reverse("console:environment-flags", args=["production"])).text
    off = {"enabled": None, "initial-enabled": "True", "reason": "Turned off in the console"}
    page = set_flag(as_person(oscar), production, harbor, approved, **off)
    assert not TenantFlag.objects.get().enabled
    assert "Turn on" in page.text


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"alpha_scale": "1.5"}, "ALPHA_RANGE"),
        ({"alpha_scale": "1e3"}, "ALPHA_FORMAT"),
        ({"alpha_scale": "NaN"}, "ALPHA_FORMAT"),
        ({"alpha_scale": "0,5"}, "ALPHA_FORMAT"),
        ({"reason": ""}, "Reason: This field is required."),
    ],
)
def test_a_flag_that_may_not_be_is_refused_with_its_code(as_person, oscar, production, harbor, approved, changes, code):
    assert code in set_flag(as_person(oscar), production, harbor, approved, **changes).text
    assert not TenantFlag.objects.exists()


def test_a_revision_that_is_not_approved_cannot_be_turned_on(as_person, oscar, production, harbor, submitted):
    assert "FLAG_NOT_APPROVED" in set_flag(as_person(oscar), production, harbor, submitted).text
    assert not TenantFlag.objects.exists()


def test_only_operators_touch_flags(as_person, ada, grace, iris, production, harbor, approved):
    for person in (ada, grace, iris):
        assert set_flag(as_person(person), production, harbor, approved).status_code == 403
        page = as_person(person).get(reverse("console:environment-flags", args=["production"]))
        assert reverse("console:set-flag", args=["production"]) not in page.text
    assert not TenantFlag.objects.exists()


@pytest.mark.parametrize("target", ["everything:", "environment:production", "tenant:harbor", "profile:harbor-empathy"])
def test_a_kill_stops_what_it_names_at_once(as_person, oscar, flag_on, target):
    before = StopStatement.objects.count()
    data = {"target": target, "reason": "Wrong tone.", "next": reverse("admin:index")}
    page = as_person(oscar).post(reverse("console:engage-kill"), data, follow=True)
    assert page.redirect_chain[0][0] == reverse("admin:index")
    assert "Kill in force" in page.text
    assert StopStatement.objects.count() == before + 1
    flags = as_person(oscar).get(reverse("console:environment-flags", args=["production"]))
    assert ">killed<" in flags.text


def test_the_kill_switch_is_on_the_dashboard_and_in_the_sidebar(as_person, oscar, iris, production):
    page = as_person(oscar).get(reverse("admin:index"))
    assert reverse("console:engage-kill") in page.text
    assert reverse("console:kills") in page.text
    assert reverse("console:engage-kill") not in as_person(iris).get(reverse("admin:index")).text


def test_a_kill_leads_nowhere_else(as_person, oscar, production):
    data = {"target": "everything:", "reason": "x", "next": "https://example.org/"}
    assert as_person(oscar).post(reverse("console:engage-kill"), data).url == reverse("console:kills")


def test_lifting_takes_two_people(as_person, person, oscar, grace, production):
    client = as_person(oscar)
    client.post(reverse("console:engage-kill"), {"target": "environment:production", "reason": "Drill."})
    kill = Kill.objects.get()
    client.post(reverse("console:request-lift", args=[kill.pk]), {"reason": "Drill over."})
    assert "somebody else must confirm" in client.get(reverse("console:kills")).text
    assert "KILL_LIFT_NEEDS_TWO" in client.post(reverse("console:confirm-lift", args=[kill.pk]), follow=True).text
    assert Kill.objects.get().lifted_at is None
    as_person(grace).post(reverse("console:confirm-lift", args=[kill.pk]))
    assert Kill.objects.get().lifted_by == grace


def test_an_auditor_cannot_kill(as_person, iris, production):
    assert as_person(iris).post(reverse("console:engage-kill"), {"target": "everything:", "reason": "x"}).status_code == 403
    assert not Kill.objects.exists()


def test_an_operator_adds_tenants_and_environments(as_person, oscar, production):
    as_person(oscar).post(reverse("console:create-tenant"), {"name": "atlas", "title": "Atlas"})
    as_person(oscar).post(reverse("console:create-environment"), {"name": "staging"})
    assert Tenant.objects.get().title == "Atlas"
    assert Environment.objects.get(name="staging").head_revision == 1


def test_flags_open_on_production_and_an_unknown_environment_is_told(as_person, oscar, production):
    client = as_person(oscar)
    client.post(reverse("console:create-environment"), {"name": "alpha"})
    assert client.get(reverse("console:flags")).url == reverse("console:environment-flags", args=["production"])
    assert "ENVIRONMENT_NOT_FOUND" in client.get(reverse("console:environment-flags", args=["nowhere"]), follow=True).text


def test_flags_without_an_environment_ask_for_one(as_person, oscar):
    assert "There is no environment yet." in as_person(oscar).get(reverse("console:flags")).text


def test_the_fleet_tells_who_is_synced_and_who_is_silent(as_person, oscar, node):
    member, _ = node
    say(member, revision=Environment.objects.get().head_revision)
    assert ">SYNCED<" in as_person(oscar).get(reverse("console:fleet")).text
    ServingNode.objects.update(last_seen_at=timezone.now() - timedelta(hours=1))
    assert ">SILENT<" in as_person(oscar).get(reverse("console:fleet")).text


def test_the_dashboard_asks_nothing_of_nodes_that_left(as_person, oscar, production, node):
    gone, _ = enroll("gone", environment=production, actor=oscar)
    production.refresh_from_db()
    ServingNode.objects.update(last_seen_at=timezone.now(), last_result="ACK", applied_revision=production.head_revision)
    withdraw_node(gone, reason="Its machine is gone.", actor=oscar)
    assert "1 / 1" in as_person(oscar).get("/admin/").text


def test_a_node_name_is_enrolled_once(as_person, oscar, node, production):
    answer = as_person(oscar).post(reverse("console:invite-node"), {"name": "node-1", "environment": production.pk})
    assert "NODE_EXISTS" in answer.text
    assert ServingNode.objects.count() == 1


def test_an_operator_rotates_and_withdraws_a_node_on_the_page(as_person, oscar, node):
    member, _ = node
    say(member, unservable=[{"profile": "harbor-empathy", "revision": 3, "code": "CAPABILITY", "message": "condition:intent"}])
    operator = as_person(oscar)
    page = operator.get(reverse("console:fleet")).text
    assert "cannot serve" in page
    assert "harbor-empathy@3" in page
    assert "she_" in operator.post(reverse("console:rotate-node"), {"node": member.pk}).text
    operator.post(reverse("console:withdraw-node"), {"node": member.pk, "reason": ""})
    assert ServingNode.objects.get().is_active
    withdrawn = operator.post(reverse("console:withdraw-node"), {"node": member.pk, "reason": "Its machine is gone."}, follow=True)
    assert ">WITHDRAWN<" in withdrawn.text
    assert "she_" in operator.post(reverse("console:rotate-node"), {"node": member.pk}).text
    assert not ServingNode.objects.get().is_active


def test_nobody_else_ends_the_life_of_a_node(as_person, ada, node):
    for name in ("rotate-node", "withdraw-node", "invite-node"):
        assert as_person(ada).post(reverse(f"console:{name}"), {"node": node[0].pk, "reason": "x"}).status_code == 403
    assert ServingNode.objects.get().enrolment_sha256 == ""
