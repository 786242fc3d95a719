"""What a node makes of time: how long ago the hub read its record, and clocks that are wrong or set."""

from datetime import UTC, datetime, timedelta

import pytest

from steernode.node.clock import NEVER, SteadyClock
from steernode.node.follower import PollOutcome
from steernode.strict import format_time
from tests.support.hub_simulator import NOW, make_content, make_profile
from tests.support.node_rig import Clock, effective, is_steered, refused, state_of

DAY = timedelta(days=1)


@pytest.fixture
def wall():
    return Clock()


def test_a_clock_that_is_set_while_the_process_lives_changes_nothing(monkeypatch):
    steady = SteadyClock()
    for wrong in (datetime(2001, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)):
        monkeypatch.setattr("steernode.node.clock.read_wall_clock", lambda wrong=wrong: wrong)
        assert abs(steady() - datetime.now(UTC)) < timedelta(seconds=5)


# -- Who has not looked does not vouch ------------------------------------------------------------------------------------------


def test_staleness_counts_from_when_the_hub_read_its_record(hub, make_node, clock):
    hub.publish()
    hub.record_age = 850.5
    node = make_node()
    node.poll()
    assert is_steered(node)
    clock.advance(seconds=50)
    assert effective(node).reason == "stale"
    hub.record_age = 0.2
    assert node.poll() is PollOutcome.UNCHANGED
    assert is_steered(node)


def test_a_hub_that_is_cut_off_from_its_record_vouches_for_nothing(hub, make_node, clock):
    hub.publish()
    hub.record_age = 0
    node = make_node()
    node.poll()
    for _ in range(95):
        clock.advance(seconds=10)
        hub.record_age += 10
        node.poll()
    assert effective(node).reason == "stale"


def test_an_older_reading_of_another_process_takes_nothing_back(hub, make_node, clock):
    hub.publish()
    node = make_node()
    node.poll()
    hub.record_age = 3000
    node.poll()
    assert is_steered(node)


@pytest.mark.parametrize("age", ["-5", "soon", "9" * 30])
def test_an_age_that_is_no_number_vouches_for_nothing(hub, make_node, clock, age):
    hub.publish()
    hub.record_age = age
    node = make_node()
    node.poll()
    assert effective(node).reason == "stale"


# -- Clocks that are wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "reason"), [("zero", "stale"), ("keep", "flag_on")])
def test_a_contact_in_the_future_is_no_contact(hub, make_node, clock, policy, reason):
    hub.publish(content=make_content(profiles=[make_profile(stale_policy=policy)]))
    make_node().poll()
    clock.moment -= timedelta(seconds=2)
    restarted = make_node(hub_url="http://127.0.0.1:9")
    assert restarted.in_force.last_contact_at == NEVER
    assert effective(restarted).reason == reason


@pytest.mark.parametrize("step", [DAY, -DAY])
def test_a_step_of_the_clock_while_running_makes_nothing_stale_and_refuses_nothing(hub, make_node, clock, wall, step):
    hub.publish()
    node = make_node(wall=wall)
    node.poll()
    wall.advance(seconds=step.total_seconds())
    assert node.poll() is PollOutcome.UNCHANGED
    assert is_steered(node)
    hub.publish(2)
    assert node.poll() is PollOutcome.APPLIED
    assert is_steered(node)
    clock.advance(seconds=901)
    assert effective(node).reason == "stale"


def test_a_node_that_began_with_a_clock_ahead_follows_once_it_is_set_right(hub, make_node, clock, wall):
    clock.moment += DAY
    wall.moment += DAY
    hub.publish()
    node = make_node(wall=wall)
    assert refused(node) == "EXPIRED"
    wall.moment -= DAY
    assert node.poll() is PollOutcome.APPLIED
    assert is_steered(node)
    assert node.poll() is PollOutcome.UNCHANGED
    clock.advance(seconds=600)
    wall.advance(seconds=600)
    node.poll()
    clock.advance(seconds=600)
    assert is_steered(node)


def test_what_is_past_its_expiry_by_both_clocks_is_expired(hub, make_node, clock, wall):
    hub.publish(expires_at=format_time(NOW - timedelta(seconds=1)))
    assert refused(make_node(wall=wall)) == "EXPIRED"


def test_a_contact_is_written_down_by_the_clock_that_the_next_process_will_read(hub, make_node, clock, wall, tmp_path):
    hub.publish()
    hub.record_age = 100
    node = make_node(wall=wall)
    node.poll()
    assert state_of(tmp_path)["last_contact_at"] == format_time(NOW - timedelta(seconds=100))
    wall.moment += DAY
    node.remember_contact()
    assert state_of(tmp_path)["last_contact_at"] == format_time(NOW + DAY - timedelta(seconds=100))
    clock.moment += DAY + timedelta(seconds=700)
    assert is_steered(make_node(hub_url="http://127.0.0.1:9"))
    clock.advance(seconds=101)
    assert not is_steered(make_node(hub_url="http://127.0.0.1:9"))
