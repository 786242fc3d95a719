"""A node at work: its reports, its loop, its swaps between batches."""

import json
import threading
import time
from datetime import timedelta

import pytest

from steernode.canonical import sha256_hex
from steernode.hub.client import FleetClient
from steernode.node import runner
from steernode.node.clock import SteadyClock
from steernode.node.follower import PollOutcome
from steernode.node.gate import BatchGate
from steernode.node.report import describe_report, describe_status, readiness_problem
from steernode.node.runner import NodeRunner
from tests.support.hub_simulator import NODE_KEY, VECTOR, make_content, make_flag, make_profile
from tests.support.node_rig import bad_signature, is_steered
from tests.support.serving import wait_until


def test_a_report_says_what_every_slot_really_gets(hub, make_node):
    flags = [make_flag(alpha_scale="0.5"), make_flag(tenant="atlas", enabled=False)]
    hub.publish(3, content=make_content(flags=flags))
    node = make_node()
    assert describe_report(node, 1)["result"] == "PENDING"
    node.poll()
    report = describe_report(node, 2)
    assert (report["result"], report["revision"], report["seq"], report["engine"]) == ("ACK", 3, 2, "echo 1")
    assert [(slot["tenant"], slot["reason"]) for slot in report["slots"]] == [("harbor", "flag_on"), ("atlas", "flag_off")]
    steering = report["slots"][0]["steering"]
    assert (steering["profile"], steering["revision"], steering["alpha"], steering["layer"]) == ("harbor-empathy", 3, "0.25", 6)
    assert steering["components"][0]["vector_sha256"] == sha256_hex(VECTOR)
    assert json.loads(json.dumps(describe_status(node)))["applied"]["last_contact_seconds"] == 0


def test_the_clock_never_runs_backwards(monkeypatch):
    clock = SteadyClock()
    before = clock()
    monkeypatch.setattr(clock, "_wall", clock._wall + timedelta(days=1))
    assert clock() > before + timedelta(hours=23)


def test_a_waiting_swap_goes_before_the_next_generation():
    gate, order = BatchGate(), []
    first_runs, first_may_end = threading.Event(), threading.Event()

    def generate(name):
        with gate.batch():
            order.append(name)
            if name == "first":
                first_runs.set()
                first_may_end.wait(5)

    def swap():
        with gate.swap():
            order.append("swap")

    first = threading.Thread(target=generate, args=("first",))
    first.start()
    first_runs.wait(5)
    swapping = threading.Thread(target=swap)
    swapping.start()
    wait_until(lambda: gate._swaps_waiting == 1)
    later = [threading.Thread(target=generate, args=("later",)) for _ in range(4)]
    for thread in later:
        thread.start()
    first_may_end.set()
    for thread in (first, swapping, *later):
        thread.join(5)
    assert order == ["first", "swap", "later", "later", "later", "later"]


@pytest.fixture
def running(make_node):
    runners = []

    def run(node, **options):
        runners.append(NodeRunner(node, **options))
        runners[-1].start()
        return runners[-1]

    yield run
    for each in runners:
        each.stop(wait_seconds=0.1)


def test_a_running_node_hears_of_a_change_at_once_and_acknowledges_it(hub, make_node, running):
    hub.publish(1)
    node = make_node(clock=SteadyClock())
    running(node)
    wait_until(lambda: hub.reports and hub.reports[-1]["result"] == "ACK")
    wait_until(lambda: hub.requests[-1]["prefer"] is not None and hub.requests[-1]["etag"] == hub.etag)
    hub.publish(2, content=make_content(kills=[{"kind": "everything", "target": ""}]))
    assert wait_until(lambda: not is_steered(node)) < 3
    wait_until(lambda: hub.reports[-1]["revision"] == 2)
    assert [report["seq"] for report in hub.reports] == list(range(1, len(hub.reports) + 1))


def test_no_poll_is_held_until_what_it_serves_is_stale(hub, make_node, running):
    hub.publish(1, content=make_content(profiles=[make_profile(max_staleness_seconds=4)]))
    node = make_node(clock=SteadyClock())
    running(node)
    wait_until(lambda: is_steered(node))
    wait_until(lambda: hub.requests[-1]["etag"] == hub.etag)
    assert hub.requests[-1]["prefer"] == "wait=2"


def test_a_running_node_does_not_hammer_a_hub_whose_snapshot_it_refuses(hub, make_node, running):
    bad_signature(hub)
    running(make_node(clock=SteadyClock()))
    wait_until(lambda: hub.reports and hub.reports[-1]["result"] == "NACK")
    time.sleep(1.2)
    assert len(hub.requests) <= 3
    assert len(hub.reports) == 1


def test_a_running_node_survives_the_hub_going_away_and_coming_back(hub, make_node, running):
    hub.fail_with = 503
    node = make_node(clock=SteadyClock())
    running(node)
    wait_until(lambda: node.counters["polls_failed"] >= 1)
    hub.publish(1)
    hub.fail_with = None
    wait_until(lambda: is_steered(node))


def test_a_running_node_says_it_is_alive_every_heartbeat(hub, make_node, running):
    hub.publish(1)
    running(make_node(clock=SteadyClock()), poll_seconds=1, heartbeat_seconds=0.5)
    wait_until(lambda: len(hub.reports) >= 3)
    assert {report["result"] for report in hub.reports} == {"ACK"}


def test_a_node_whose_boot_was_overtaken_by_one_before_it_is_heard_again(hub, make_node, running):
    hub.publish(1)
    node = make_node()
    hub.boots_over = {node.boot_id}
    running(node, poll_seconds=1)
    wait_until(lambda: hub.reports)
    assert hub.reports[-1]["boot_id"] not in hub.boots_over


def test_a_report_that_cannot_be_written_ends_neither_reports_nor_polls(hub, make_node, running, monkeypatch):
    hub.publish(1)
    node = make_node(clock=SteadyClock())
    monkeypatch.setattr(runner, "describe_report", lambda *_: {}["slots"])
    running(node, poll_seconds=1, heartbeat_seconds=0.3)
    wait_until(lambda: len(hub.reports) >= 3)
    assert {(report["result"], report["code"], report["revision"]) for report in hub.reports} == {("NACK", "REPORT", 1)}
    assert "KeyError: 'slots'" in hub.reports[-1]["message"]
    # Nothing was put off: the next kill is heard as fast as ever.
    hub.publish(2, content=make_content(kills=[{"kind": "everything", "target": ""}]))
    assert wait_until(lambda: not is_steered(node)) < 3
    assert node.counters["polls_failed"] == 0
    monkeypatch.undo()
    wait_until(lambda: hub.reports[-1]["result"] == "ACK")


# -- Profiles that flags name and no snapshot lists any more --------------------------------------------------------------------

LISTED = {"name": "next", "weight": 1, "profile": "harbor-empathy", "revision": 3, "alpha_scale": "1"}
GONE = {"name": "now", "weight": 1, "profile": "harbor-empathy", "revision": 1, "alpha_scale": "0"}
ELSEWHERE = {**GONE, "name": "old", "profile": "of-last-year", "revision": 7}


@pytest.mark.parametrize(
    "arms",
    [
        [LISTED],
        [GONE, LISTED],
        [LISTED, GONE],
        [GONE, LISTED, ELSEWHERE],
        [LISTED, {**LISTED, "name": "third", "alpha_scale": "0.5"}, ELSEWHERE],
        [GONE],
        [GONE, ELSEWHERE],
    ],
)
@pytest.mark.parametrize("base", [{"profile": "harbor-empathy", "revision": 1}, {"profile": "of-last-year", "revision": 7}])
def test_a_flag_may_name_what_is_no_longer_listed_in_any_place(hub, make_node, clock, arms, base):
    """The revision of a flag whose arms are the next ones is retired: that is how a test ends."""
    flags = [make_flag(arms=arms, **base), make_flag(tenant="atlas", enabled=False, **base)]
    hub.publish(3, content=make_content(flags=flags))
    node = make_node()
    assert (node.poll(), node.refusal) == (PollOutcome.APPLIED, None)
    is_there = LISTED in arms
    assert [profile.revision for profile in node.in_force.snapshot.flagged_profiles()] == [3] * is_there
    assert readiness_problem(node.in_force, node.now()) is None
    assert describe_report(node, 1)["result"] == "ACK"
    assert json.loads(json.dumps(describe_status(node)))["is_ready"] is True
    # And it still looks at all that is there.
    clock.advance(seconds=901)
    assert readiness_problem(node.in_force, node.now()) == ("stale" if is_there else None)


def test_a_token_the_hub_does_not_know_is_not_tried_again_soon(hub, hub_url, make_node):
    client = FleetClient(hub_url, "production", "node-1", "shn_" + "x" * 43, NODE_KEY)
    hub.publish()
    runner = NodeRunner(make_node(client=client))
    assert runner._poll() >= 60
    client.close()
