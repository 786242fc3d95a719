"""The lists stay usable when they are long: nothing is counted to its end or listed by its values."""

import pytest
from django import forms
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from registry.audit import Action
from registry.console.forms.fields import LongSelect
from registry.console.lists import readonly
from registry.models import AppliedPlan, AuditEvent, Declaration, Environment, Tenant, TenantFlag
from registry.services.kills import engage_kill
from registry.services.transition import transition
from registry.snapshots import publish_snapshot

LOG = reverse("admin:registry_auditevent_changelist")


def listed(answer) -> list[AuditEvent]:
    return list(answer.context["cl"].result_list)


@pytest.fixture
def log(as_person, iris, flag_on):
    client = as_person(iris)
    return lambda query="": listed(client.get(f"{LOG}?{query}"))


def test_the_log_is_searched_for_whole_names(log):
    assert {event.tenant or event.object_name for event in log("q=harbor")} == {"harbor"}
    assert {event.action for event in log("q=flag.changed")} == {"flag.changed"}
    assert log("q=harb") == []


def test_the_log_is_filtered_by_values_that_are_known_without_reading_it(log, as_person, iris):
    assert {event.action for event in log("action=flag.changed")} == {"flag.changed"}
    assert {event.object_type for event in log("object_type=tenant")} == {"tenant"}
    assert {event.environment for event in log("environment=production")} == {"production"}
    with CaptureQueriesContext(
        connection,
    ) as queries:
        as_person(iris).get(LOG)
    assert [query["sql"] for query in queries if "DISTINCT" in query["sql"] and "auditevent" in query["sql"]] == []


def test_a_long_list_is_counted_only_as_far_as_people_page(as_person, oscar, monkeypatch):
    monkeypatch.setattr(readonly, "COUNTED", 60)
    Tenant.objects.bulk_create(Tenant(name=f"tenant-{number}") for number in range(70))
    answer = as_person(oscar).get(reverse("admin:registry_tenant_changelist"))
    assert answer.context["cl"].paginator.count == 60
    assert answer.context["cl"].paginator.num_pages == 2


@pytest.fixture
def many_flags(production, approved, oscar):
    tenants = Tenant.objects.bulk_create(Tenant(name=f"tenant-{number:02}") for number in range(60))
    TenantFlag.objects.bulk_create(
        TenantFlag(environment=production, tenant=tenant, revision=approved, enabled=True, reason="test", changed_by=oscar)
        for tenant in tenants
    )
    # They were written past the services, so nodes have not been told of them.
    transition(publish_snapshot)(Environment.objects.get(pk=production.pk), cause=Action.FLAG_CHANGED, actor=oscar)


def test_the_flags_of_many_tenants_come_in_pages_and_are_found_by_name(many_flags, as_person, oscar):
    client, path = as_person(oscar), reverse("console:environment-flags", args=["production"])

    def tenants(query=""):
        return [view.flag.tenant.name for view in client.get(f"{path}?{query}").context["flags"]]

    assert tenants() == [f"tenant-{number:02}" for number in range(50)]
    assert tenants("page=2") == [f"tenant-{number:02}" for number in range(50, 60)]
    assert tenants("q=ant-5") == [f"tenant-{number:02}" for number in range(50, 60)]
    assert tenants("q=nobody") == []
    assert "1 to 50 of 60 tenants" in client.get(path).text


def test_the_dashboard_counts_every_flag_that_steers_and_shows_a_few(many_flags, as_person, oscar):
    def shown():
        (view,) = as_person(oscar).get(reverse("admin:index")).context["environments"]
        return view.flags_on, len(view.flags), view.more

    assert shown() == (60, 12, 48)
    engage_kill("tenant", target="tenant-07", reason="test", actor=oscar)
    assert shown() == (59, 12, 48)
    engage_kill("profile", target="harbor-empathy", reason="test", actor=oscar)
    assert shown() == (0, 12, 48)


def test_a_long_choice_is_written_as_a_short_one_would_be():
    class Form(forms.Form):
        pick = forms.ChoiceField(choices=[("a", 'A "quoted" <one>'), ("Group", [("b", "B"), ("c", "C")])], widget=LongSelect)

    written = str(Form(initial={"pick": "c"})["pick"])
    assert '<option value="a">A &quot;quoted&quot; &lt;one&gt;</option>' in written
    assert '<optgroup label="Group"><option value="b">B</option><option value="c" selected>C</option></optgroup>' in written
    assert 'name="pick"' in written


def test_what_manifests_declare_is_listed_with_who_manages_and_applied_it(as_person, iris, ada):
    plan = AppliedPlan.objects.create(digest="a" * 64, applied_by=ada)
    Declaration.objects.create(
        kind="Tenant", name="harbor", manager="team-git", labels={"team": "care"}, generation=3, spec_digest="b" * 64, plan=plan
    )
    Declaration.objects.create(kind="Tenant", name="pruned", plan=plan)
    Declaration.objects.create(kind="Environment", name="production", spec_digest="c" * 64, plan=plan)
    url = reverse("admin:registry_declaration_changelist")
    page = as_person(iris).get(url, {"kind": "Tenant"})
    assert [str(row) for row in listed(page)] == ["Tenant harbor"]
    for said in ("team-git", "team=care", "ada"):
        assert said in page.text
    assert {str(row) for row in listed(as_person(iris).get(url))} == {"Tenant harbor", "Environment production"}
