"""How soon a running node obeys, in each state of everything else."""

import threading
import time

import pytest

from steernode.errors import HubError
from steernode.hub.client import FleetClient
from steernode.node.clock import SteadyClock
from steernode.node.runner import BACK_OFF_CAP_SECONDS, NodeRunner
from steernode.node.stoproad import BACK_OFF_CAP_SECONDS as STOP_CAP_SECONDS
from steernode.node.stoproad import REFUSED_SECONDS, StopRoad
from tests.support.hub_simulator import NODE_KEY, Signer, make_content, make_flag, make_kill, trust
from tests.support.node_rig import NIGHT, announce, bad_signature, drop_stop, effective, is_steered, offline_stop, trust_of
from tests.support.serving import wait_until

KILL = make_kill()
# A second, with room for a machine that does other things besides. By the clock it is measured in `benchmarks/stop`; who hears nothing asks
# again after twenty seconds.
AT_ONCE_SECONDS = 3


@pytest.fixture
def run(hub, make_node):
    """A node at work that steers harbor. It has heard that nothing is stopped."""
    runners = []

    def start(**options):
        hub.publish(1)
        hub.publish_stop()
        node = make_node(clock=SteadyClock(), keys=trust(hub.signer, hub.stop_signer, NIGHT))
        runners.append(NodeRunner(node, **options))
        runners[-1].start()
        wait_until(lambda: is_steered(node) and node.stop_report)
        return node

    yield start
    for runner in runners:
        runner.stop(wait_seconds=0.1)


def seconds_to_neutral(node):
    return wait_until(lambda: not is_steered(node), seconds=20)


def test_a_held_question_is_answered_with_the_stop_at_once(hub, run):
    node = run()
    wait_until(lambda: hub.stop_requests[-1] == {"etag": f'"{hub.stop_digest}"', "prefer": "wait=20"})
    hub.publish_stop(KILL)
    assert seconds_to_neutral(node) < AT_ONCE_SECONDS
    wait_until(lambda: node.stop_report["sequence"] == 2)


@pytest.mark.parametrize(
    "trouble",
    [
        bad_signature,
        lambda hub: setattr(hub, "fail_snapshots_with", 404),
        lambda hub: setattr(hub, "fail_snapshots_with", 401),
        lambda hub: setattr(hub, "holds_stops", False),
        lambda hub: hub.publish(2, content=make_content(capabilities=["operator:levitate"])),
    ],
    ids=["refused", "none", "unauthorised", "plain", "capability"],
)
def test_a_stop_takes_no_more_than_a_second_whatever_the_snapshot_road_waits_for(hub, run, trouble):
    node = run()
    trouble(hub)
    # Long enough that the pauses of the other road have grown.
    time.sleep(2)
    hub.publish_stop(KILL)
    assert seconds_to_neutral(node) < AT_ONCE_SECONDS


def test_a_snapshot_that_waits_for_a_running_generation_keeps_no_stop_waiting(hub, run):
    node = run()
    may_swap, waits = threading.Event(), threading.Event()

    class Gate:
        def __enter__(self):
            waits.set()
            may_swap.wait(10)

        def __exit__(self, *_):
            return None

    node.swapping = Gate
    hub.publish(2, content=make_content(flags=[make_flag(alpha_scale="0.5")]))
    assert waits.wait(5)
    hub.publish_stop(KILL)
    assert seconds_to_neutral(node) < AT_ONCE_SECONDS
    may_swap.set()
    wait_until(lambda: node.in_force.snapshot.revision == 2)
    assert effective(node).reason == "killed_tenant"


def test_a_stop_of_a_key_that_was_rotated_meanwhile_is_obeyed_at_once(hub, run, tmp_path):
    node = run()
    hub.stop_signer = Signer(purposes=["stop"])
    announce(hub, trust_of(hub.signer, hub.stop_signer), hub.signer)
    hub.publish_stop(KILL)
    assert seconds_to_neutral(node) < AT_ONCE_SECONDS
    wait_until(lambda: node.stop_report["sequence"] == 2)
    # The new key lets go, too.
    hub.publish_stop(released=[KILL.id])
    assert wait_until(lambda: is_steered(node)) < AT_ONCE_SECONDS


def test_a_refused_stop_is_asked_for_again_once_there_are_newer_keys(hub, steering_node):
    hub.stop_signer = Signer(purposes=["stop"])
    hub.publish_stop(KILL)
    for _ in range(2):
        steering_node.poll()
    assert (steering_node.refusal.code, len(hub.stop_requests), is_steered(steering_node)) == ("SIGNATURE", 2, True)
    announce(hub, trust_of(hub.signer, hub.stop_signer), hub.signer)
    assert steering_node.follow_trust()
    steering_node.poll()
    assert (steering_node.refusal, is_steered(steering_node)) == (None, False)


def test_a_file_stops_a_running_node_within_a_second_with_the_hub_down(hub, run, tmp_path):
    node = run()
    hub.proxy_with = 502
    envelope = offline_stop(KILL)
    drop_stop(tmp_path, envelope, ".copy")
    (tmp_path / "store/stop-inbox/.copy").rename(tmp_path / "store/stop-inbox/stop")
    assert seconds_to_neutral(node) < AT_ONCE_SECONDS
    hub.proxy_with = None
    wait_until(lambda: hub.handed_back, seconds=30)
    assert hub.handed_back == [envelope]


def test_a_file_reaches_the_hub_at_once_though_every_question_is_held(hub, run, tmp_path):
    run()
    held = {"etag": f'"{hub.stop_digest}"', "prefer": "wait=20"}
    wait_until(lambda: hub.stop_requests[-1] == held and hub.requests[-1]["prefer"])
    envelope = offline_stop(KILL)
    drop_stop(tmp_path, envelope, ".copy")
    (tmp_path / "store/stop-inbox/.copy").rename(tmp_path / "store/stop-inbox/stop")
    assert wait_until(lambda: hub.handed_back, seconds=20) < AT_ONCE_SECONDS
    assert hub.handed_back == [envelope]


def test_one_refusal_of_a_proxy_delays_neither_the_stop_nor_the_snapshot_for_long(hub, run):
    node = run()
    hub.proxy_with = 403
    # Whoever waits is answered by the hub; the next question meets the proxy.
    hub.publish(2)
    wait_until(lambda: node.counters["polls_failed"])
    hub.proxy_with = None
    time.sleep(0.5)
    hub.publish_stop(KILL)
    assert seconds_to_neutral(node) < AT_ONCE_SECONDS
    hub.publish(3)
    wait_until(lambda: node.in_force.snapshot.revision == 3, seconds=5)


def test_only_the_hubs_own_word_makes_a_long_pause(hub, hub_url, make_node):
    hub.publish(1)
    node = make_node(client=FleetClient(hub_url, "production", "node-1", "shn_" + "x" * 43, NODE_KEY))
    assert NodeRunner(node)._poll() >= 60
    assert StopRoad(node, poll_seconds=20).ask() <= REFUSED_SECONDS
    hub.proxy_with = 403
    assert NodeRunner(node)._poll() <= BACK_OFF_CAP_SECONDS
    road = StopRoad(node, poll_seconds=20)
    assert max(road.ask() for _ in range(8)) <= STOP_CAP_SECONDS
    node.client.close()


def test_a_hub_that_holds_too_many_is_asked_plainly(hub, make_node):
    hub.publish_stop()
    node = make_node()
    node.stops.ask(node.client)
    road = StopRoad(node, poll_seconds=20)
    refusal = HubError("TOO_MANY_HELD", "poll without waiting")
    refusal.status, refusal.retry_after_seconds = 503, 9.0
    assert road._back_off(refusal) <= 1
    assert road.ask() <= 1
    assert hub.stop_requests[-1]["prefer"] is None


def test_a_hub_that_knows_no_stops_is_not_hammered(hub, make_node):
    hub.publish(1)
    runner = NodeRunner(make_node(clock=SteadyClock()))
    runner.start()
    time.sleep(2)
    runner.stop(wait_seconds=0.1)
    assert len(hub.stop_requests) == 1


def test_ten_thousand_kills_are_taken_up(hub, run):
    node = run()
    hub.publish_stop(*sorted([KILL, *(make_kill(f"tenant-{number:05}") for number in range(10_000))]))
    assert seconds_to_neutral(node) < AT_ONCE_SECONDS
    wait_until(lambda: node.stop_report["held"] == 10_001)
