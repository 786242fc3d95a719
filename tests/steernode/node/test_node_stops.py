"""A stop reaches a node whatever becomes of its snapshot, and stays until it is lifted."""

import contextlib
from datetime import timedelta

import pytest

from steernode.canonical import sha256_hex
from steernode.errors import HubError
from steernode.node.follower import PollOutcome
from steernode.node.report import describe_report
from steernode.stop.document import StopStatement, write_stop
from steernode.strict import format_time
from tests.support.hub_simulator import NOW, Signer, make_content, make_flag, make_kill, make_profile, trust
from tests.support.node_rig import bad_signature, drop_stop, effective, is_steered, offline_stop

KILL = make_kill()


@pytest.fixture
def node(steering_node):
    return steering_node


def poll(node):
    with contextlib.suppress(HubError):
        node.poll()


def expired(hub):
    hub.publish(3, expires_at=format_time(NOW - timedelta(minutes=1)))


def no_snapshot(hub):
    hub.fail_snapshots_with = 404


# -- Whatever becomes of the snapshot -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        lambda hub: hub.publish(1),
        expired,
        bad_signature,
        no_snapshot,
        lambda hub: hub.publish_bytes(b"x" * 10_000_000),
        lambda hub: hub.publish(3, content=make_content(capabilities=["operator:levitate"])),
        lambda hub: hub.publish(3, content=make_content(base_models=[{"name": "other", "fingerprint": "0e" * 32}])),
        lambda hub: hub.publish(3, content=make_content(profiles=[make_profile(base_model="0e" * 32)], flags=[make_flag(profile="gone")])),
        lambda hub: hub.publish_bytes(b""),
        lambda hub: setattr(hub, "fail_snapshots_with", 503),
        lambda hub: None,
    ],
    ids=["older", "expired", "signature", "none", "too large", "capability", "base model", "odd", "empty", "down", "unchanged"],
)
def test_a_stop_is_taken_up_with_any_answer_about_the_snapshot(hub, node, trouble):
    trouble(hub)
    hub.publish_stop(KILL)
    poll(node)
    assert effective(node).profile is None
    assert node.stop_report == {"sequence": 2, "digest": hub.stop_digest, "held": 1, "surplus": []}
    poll(node)
    assert hub.requests[-1]["stop"] == hub.stop_digest
    assert effective(node).reason in ("killed_tenant", "wrong_base_model")


def test_a_node_without_any_snapshot_keeps_stops_too(hub, make_node):
    hub.publish_stop(KILL)
    poll(make_node())
    hub.publish(1)
    hub.stop_envelope = None
    node = make_node()
    assert node.poll() is PollOutcome.APPLIED
    assert effective(node).reason == "killed_tenant"


def test_a_hub_that_says_nothing_of_stops_is_followed_as_before(hub, make_node):
    hub.publish(1)
    node = make_node()
    assert node.poll() is PollOutcome.APPLIED
    assert is_steered(node)
    assert (hub.stop_requests, node.stop_report) == ([], None)


def test_a_stop_never_waits_for_the_gate_of_the_engine(hub, node):
    def closed():
        raise AssertionError("a stop asked for the gate")

    node.swapping = closed
    hub.publish_stop(KILL)
    node.poll()
    assert effective(node).reason == "killed_tenant"


def test_a_stop_that_is_refused_is_said_and_ends_nothing(hub, node):
    hub.publish_stop(KILL, signer=Signer())
    node.poll()
    assert is_steered(node)
    assert describe_report(node, 1)["code"] == "SIGNATURE"
    asked = len(hub.stop_requests)
    node.poll()
    assert len(hub.stop_requests) == asked
    hub.publish_stop(KILL, make_kill("atlas"))
    node.poll()
    assert effective(node).reason == "killed_tenant"
    assert describe_report(node, 2)["result"] == "ACK"


def test_what_somebody_on_the_way_said_once_is_over_once_the_hub_answers(hub, node):
    hub.publish_stop()
    node.poll()
    said, hub.stop_envelope, hub.stop_digest = (hub.stop_envelope, hub.stop_digest), b"<h1>Sign in to this network</h1>", "ab" * 32
    node.poll()
    assert describe_report(node, 1)["code"] == "ENVELOPE"
    hub.stop_envelope, hub.stop_digest = said
    node.stops._known = "", 0.0
    node.stops.ask(node.client)
    assert describe_report(node, 2)["result"] == "ACK"


# -- Letting go -----------------------------------------------------------------------------------------------------------------


def test_only_a_lift_lets_go(hub, node):
    hub.publish_stop(KILL)
    node.poll()
    hub.publish_stop()
    node.poll()
    assert effective(node).reason == "killed_tenant"
    assert node.stop_report["surplus"] == [KILL.id]
    hub.publish_stop(released=[KILL.id])
    node.poll()
    assert is_steered(node)


def test_what_an_older_statement_of_another_process_lacks_stays_and_what_it_has_is_added(hub, node):
    hub.publish_stop(KILL, sequence=9)
    node.poll()
    hub.publish_stop(make_kill("atlas"), sequence=5, released=[KILL.id])
    node.poll()
    assert len(node.stops.heard.held) == 2
    asked = len(hub.stop_requests)
    node.poll()
    assert len(hub.stop_requests) == asked


# -- On disk --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["none", "state.json", "snapshot.dsse", "stops.json", "stops.json gone"])
def test_a_stop_outlives_the_process_whatever_the_state_of_the_disk(hub, node, make_node, tmp_path, damage):
    hub.publish_stop(KILL)
    node.poll()
    if damage == "stops.json gone":
        (tmp_path / "store/stops.json").unlink()
    elif damage != "none":
        (tmp_path / "store" / damage).write_bytes(b"\x00garbage")
    restarted = make_node(hub_url="http://127.0.0.1:9")
    assert not is_steered(restarted)
    assert set(restarted.stops.heard.held) == {KILL.id}
    assert restarted.stops.heard.sequence == 2
    # And its key may have gone from the trust document since.
    again = make_node(hub_url="http://127.0.0.1:9", keys=trust(hub.signer))
    assert set(again.stops.heard.held) == {KILL.id}


def test_what_was_lifted_stays_lifted_after_a_restart_and_leaves_the_disk(hub, node, make_node, tmp_path):
    hub.publish_stop(KILL)
    node.poll()
    hub.publish_stop(released=[KILL.id])
    node.poll()
    assert [path.name for path in (tmp_path / "store/stops").iterdir()] == [f"{hub.stop_digest}.dsse"]
    assert is_steered(make_node(hub_url="http://127.0.0.1:9"))


def test_an_older_statement_is_still_older_after_a_restart(hub, node, make_node):
    hub.publish_stop(KILL, sequence=9)
    node.poll()
    hub.publish_stop(sequence=8, released=[KILL.id])
    restarted = make_node()
    restarted.poll()
    assert effective(restarted).reason == "killed_tenant"


def test_many_statements_leave_one_file_and_what_the_hub_lost_keeps_its_own(hub, node, tmp_path):
    kills = [make_kill(f"tenant-{number}") for number in range(20)]
    for number in range(1, 21):
        hub.publish_stop(*sorted(kills[:number]))
        node.poll()
    names = {path.name for path in (tmp_path / "store/stops").iterdir()}
    assert names == {f"{hub.stop_digest}.dsse"}
    hub.publish_stop(*sorted(kills[:3]))
    node.poll()
    assert {path.name for path in (tmp_path / "store/stops").iterdir()} == {*names, f"{hub.stop_digest}.dsse"}


def test_a_disk_that_cannot_be_written_keeps_no_stop_out_and_is_told(hub, node, tmp_path):
    stops = tmp_path / "store/stops"
    for path in stops.iterdir():
        path.unlink()
    stops.rmdir()
    stops.write_bytes(b"a file where the folder was")
    hub.publish_stop(KILL)
    node.poll()
    assert effective(node).reason == "killed_tenant"
    report = describe_report(node, 1)
    assert (report["result"], report["code"]) == ("NACK", "CACHE_UNWRITABLE")
    assert node.stop_report["sequence"] == 1
    stops.unlink()
    node.stops.look()
    assert node.stop_report["sequence"] == 2
    assert describe_report(node, 2)["result"] == "ACK"


def test_power_lost_before_the_state_was_written_still_finds_the_stop(hub, node, make_node, tmp_path):
    before = (tmp_path / "store/stops.json").read_bytes()
    hub.publish_stop(KILL)
    node.poll()
    (tmp_path / "store/stops.json").write_bytes(before)
    restarted = make_node(hub_url="http://127.0.0.1:9")
    assert effective(restarted).reason == "killed_tenant"
    assert restarted.stops.heard.sequence == 2


# -- Handed back ----------------------------------------------------------------------------------------------------------------


def test_what_the_hub_lost_is_handed_back_once_until_it_lists_it(hub, node):
    lost = hub.publish_stop(KILL)
    node.poll()
    hub.publish_stop()
    node.poll()
    for _ in range(3):
        node.stops.hand_back(node.client)
    assert hub.handed_back == [lost]
    hub.publish_stop(KILL)
    node.poll()
    node.stops.hand_back(node.client)
    assert node.stop_report["surplus"] == []
    assert hub.handed_back == [lost]


def test_an_offline_stop_is_handed_back_unless_the_hub_has_it_on_record(hub, node, tmp_path):
    envelope = offline_stop(KILL)
    digest = sha256_hex(write_stop(StopStatement("night shift", 1, NOW, (KILL,))))
    drop_stop(tmp_path, envelope)
    node.stops.look()
    assert effective(node).reason == "killed_tenant"
    node.stops.hand_back(node.client)
    assert hub.handed_back == [envelope]
    hub.publish_stop(KILL, adopted=[digest])
    node.poll()
    hub.publish_stop(adopted=[digest])
    node.poll()
    node.stops.hand_back(node.client)
    assert effective(node).reason == "killed_tenant"
    assert hub.handed_back == [envelope]
    hub.publish_stop(released=[digest])
    node.poll()
    assert is_steered(node)


def test_a_hub_that_refuses_what_is_handed_back_is_left_alone_and_a_failure_is_tried_again(hub, node, monkeypatch):
    hub.publish_stop(KILL)
    node.poll()
    hub.publish_stop()
    node.poll()
    moment = [100.0]
    monkeypatch.setattr("steernode.node.stops.time.monotonic", lambda: moment[0])
    hub.refuse_hand_backs_with = 503
    node.stops.hand_back(node.client)
    moment[0] += 10
    hub.refuse_hand_backs_with = 422
    node.stops.hand_back(node.client)
    hub.refuse_hand_backs_with = None
    moment[0] += 500
    node.stops.hand_back(node.client)
    assert hub.handed_back == []
    moment[0] += 200
    node.stops.hand_back(node.client)
    assert len(hub.handed_back) == 1
