"""The registries stay usable when they are long: nothing is counted to its end or listed by its values."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from registry.console.registries import base
from registry.models import AuditEvent, Tenant

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
    monkeypatch.setattr(base, "COUNTED", 60)
    Tenant.objects.bulk_create(Tenant(name=f"tenant-{number}") for number in range(70))
    answer = as_person(oscar).get(reverse("admin:registry_tenant_changelist"))
    assert answer.context["cl"].paginator.count == 60
    assert answer.context["cl"].paginator.num_pages == 2
