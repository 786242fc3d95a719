"""Clocks that disagree are told of; nothing waits for them."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.core.checks import run_checks

from registry.reads.clocks import hub_ahead_seconds, say_disagreement
from registry.services.kills import engage_kill
from steernode.errors import FieldError
from steernode.strict import format_time
from tests.support.nodes import say


@pytest.fixture
def off(monkeypatch):
    """This machine's clock is set by so many seconds."""
    true = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: true() + seconds)


@pytest.mark.parametrize("seconds", [-90_000, -3, 0, 3, 90_000])
def test_the_hubs_clock_is_held_against_the_databases(db, off, seconds):
    off(seconds)
    assert hub_ahead_seconds() == pytest.approx(seconds, abs=1)
    assert bool(say_disagreement(hub_ahead_seconds())) == (seconds != 0)


def test_check_and_the_fleet_page_warn(client, production, oscar, off):
    off(-90_000)
    (warning,) = [problem for problem in run_checks(databases=["default"]) if problem.id == "steerhub.W002"]
    assert "90000 s behind" in warning.msg
    client.force_login(oscar)
    assert "90000 s behind" in client.get("/console/fleet/").content.decode()


def test_a_hub_whose_clock_is_a_day_behind_stops_all_the_same(production, oscar, off, monkeypatch):
    from django.utils import timezone

    from registry.models import StopStatement

    first = engage_kill("environment", target="production", reason="x", actor=oscar)
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now - timezone.timedelta(days=1))
    second = engage_kill("everything", reason="x", actor=oscar)
    newest, before = StopStatement.objects.order_by("-sequence")
    assert newest.sequence == before.sequence + 1
    assert first != second


@pytest.mark.parametrize(("seconds", "said"), [(-86_400, "s behind"), (-30, "s behind"), (0, ""), (86_400, "s ahead")])
def test_a_nodes_clock_is_held_against_the_databases_when_it_reports(api, client, node, oscar, seconds, said):
    say(node[0], node_utc=format_time(datetime.now(UTC) + timedelta(seconds=seconds)))
    told = api(oscar).get("/api/v1/nodes/node-1").json()["clock_off_seconds"]
    client.force_login(oscar)
    page = client.get("/console/fleet/").text
    if said:
        assert told == pytest.approx(seconds, abs=3)
        assert f"{abs(told)} {said}" in page
    else:
        assert told is None
        assert "clock off" not in page


def test_a_report_of_no_time_is_refused_by_the_field(node):
    with pytest.raises(FieldError, match="UTC time"):
        say(node[0], node_utc="yesterday")
