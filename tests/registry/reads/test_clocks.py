"""Clocks that disagree are told of; nothing waits for them."""

import time

import pytest
from django.core.checks import run_checks

from registry.reads.clocks import hub_ahead_seconds, say_disagreement
from registry.services.kills import engage_kill


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
