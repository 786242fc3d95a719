"""What a node makes of its own life: who it is, whose keys it follows, and what it lets go of when it is withdrawn."""

import json
import stat

import pytest

from steernode.canonical import canonical_json
from steernode.errors import HubError, NodeError, SnapshotRefused
from steernode.node.follower import Follower, PollOutcome
from steernode.node.identity import IDENTITY_FILE, enroll_here, follow_trust, read_identity, read_trusted
from steernode.node.report import describe_report
from steernode.node.runner import NodeRunner
from steernode.records.reports import REPORT_TYPE, Report
from tests.support.hub_simulator import ENROLMENT_TOKEN, NODE_TOKEN, NOW, Signer, make_content
from tests.support.node_rig import announce, is_steered, trust_of
from tests.support.serving import wait_until


@pytest.fixture
def store(tmp_path, hub, hub_url):
    enroll_here(tmp_path / "store", hub_url=hub_url, name="node-1", secret=ENROLMENT_TOKEN)
    return tmp_path / "store"


def test_a_node_keeps_its_key_and_token_to_itself(store, hub, client):
    identity = read_identity(store)
    assert (identity.name, identity.environment, identity.token) == ("node-1", "production", NODE_TOKEN)
    assert stat.S_IMODE((store / IDENTITY_FILE).stat().st_mode) == 0o600
    client.report({"result": "ACK"})
    assert hub.reports == [{"result": "ACK"}]
    assert json.loads(identity.sign(b"{}", REPORT_TYPE))["payloadType"] == REPORT_TYPE


def test_a_refused_enrolment_leaves_nothing_behind(tmp_path, hub, hub_url):
    with pytest.raises(HubError) as caught:
        enroll_here(tmp_path / "store", hub_url=hub_url, name="node-1", secret="she_" + "x" * 43)
    assert caught.value.code == "ENROLMENT_TOKEN"
    assert read_identity(tmp_path / "store") is None
    assert list((tmp_path / "store").iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_no_token(tmp_path, hub_url):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(NodeError) as caught:
        enroll_here(tmp_path / "store", hub_url=hub_url, name="node-1", secret=ENROLMENT_TOKEN)
    assert caught.value.code == "CACHE_UNWRITABLE"


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"schema":"steerhub.node-identity/1"}'])
def test_a_damaged_identity_is_named(store, damage):
    (store / IDENTITY_FILE).write_bytes(damage)
    with pytest.raises(NodeError) as caught:
        read_identity(store)
    assert caught.value.code == "STORE_CORRUPT"


def test_keys_that_came_by_another_road_count_until_newer_ones_are_followed(tmp_path, hub, hub_url):
    brought = trust_of(hub.signer, version=5)
    enroll_here(tmp_path, hub_url=hub_url, name="node-1", secret=ENROLMENT_TOKEN, trust=brought)
    assert read_trusted(tmp_path).version == 5
    assert read_trusted(tmp_path, trust_of(Signer(), version=4)).version == 5
    assert read_trusted(tmp_path, trust_of(Signer(), version=6)).version == 6
    assert read_trusted(tmp_path).version == 6


@pytest.fixture
def client(store):
    client = read_identity(store).connect()
    yield client
    client.close()


def test_a_rotation_is_followed_without_anybody_at_the_node(store, hub, client, make_node):
    new, keys = Signer(), read_trusted(store)
    node = make_node(store=store, keys=keys, client=client)
    hub.publish(1)
    assert node.poll() is PollOutcome.APPLIED
    announce(hub, trust_of(new), hub.signer)
    hub.publish(2, signer=new)
    runner = NodeRunner(node, poll_seconds=1)
    runner.start()
    wait_until(lambda: node.in_force.snapshot.revision == 2)
    runner.stop(wait_seconds=0.1)
    assert [key.keyid for key in read_trusted(store).keys] == [new.keyid]
    # The old key counts no longer, from now on.
    hub.publish(3)
    assert node.poll() is PollOutcome.REFUSED
    assert node.refusal.code == "SIGNATURE"


@pytest.mark.parametrize("case", ["a stranger's", "of before", "without keys for snapshots", "no trust document"])
def test_a_trust_document_that_may_not_be_believed_changes_nothing(store, hub, make_node, clock, case):
    keys = read_trusted(store)
    before, (stranger, node) = keys.keys, (Signer(), make_node(store=store, keys=keys))
    document, signer = {
        "a stranger's": (trust_of(stranger), stranger),
        "of before": (trust_of(stranger, version=0), hub.signer),
        "without keys for snapshots": (
            {**trust_of(stranger), "keys": [stranger.key_document(purposes=["stop"])]},
            hub.signer,
        ),
        "no trust document": ({}, hub.signer),
    }[case]
    announce(hub, document, signer)
    assert not node.follow_trust()
    assert keys.keys == before
    assert read_trusted(store).keys[0].keyid == hub.signer.keyid
    if case != "of before":
        with pytest.raises(SnapshotRefused):
            follow_trust(store, keys, node.client, clock())


def test_a_trust_document_is_no_snapshot_and_the_other_way_round(hub, store):
    keys = read_trusted(store)
    with pytest.raises(SnapshotRefused) as caught:
        keys.follow(hub.signer.sign(canonical_json(trust_of(Signer()))), NOW)
    assert caught.value.code == "ENVELOPE"
    assert keys.keys[0].keyid == hub.signer.keyid


@pytest.mark.parametrize("code", ["NODE_WITHDRAWN", "TOKEN_REPLACED"])
def test_a_withdrawn_node_lets_go_of_what_it_steers_by_and_not_of_how_far_it_came(hub, make_node, code):
    hub.publish(4)
    node = make_node()
    node.poll()
    assert is_steered(node)

    hub.fail_with, hub.fail_code = 401, code
    with pytest.raises(HubError):
        node.poll()
    assert not is_steered(node)
    again = make_node()
    assert not is_steered(again)
    hub.fail_with = None
    hub.publish(3)
    assert again.poll() is PollOutcome.REFUSED
    assert again.refusal.code == "ROLLBACK"


def test_another_401_is_no_withdrawal(hub, make_node):
    hub.publish()
    node = make_node()
    node.poll()
    hub.fail_with, hub.fail_code = 401, "NOT_AUTHENTICATED"
    with pytest.raises(HubError):
        node.poll()
    assert is_steered(node)


def test_a_report_is_one_that_the_hub_reads(hub, make_node, monkeypatch):
    node = make_node()
    told = Report.from_document(json.loads(json.dumps(describe_report(node, 1))))
    assert (told.result, told.applied, told.highest_revision, told.stop, told.unservable) == ("PENDING", None, None, None, ())
    hub.publish(3, content=make_content())
    node.poll()
    many = [f"{number:032x}" for number in range(80)]
    cannot = [{"profile": "p", "revision": 1, "code": "CAPABILITY", "message": "condition:probe"}] * 60
    monkeypatch.setattr(Follower, "stop_report", {"sequence": 9, "digest": "cd" * 32, "held": 2, "surplus": many})
    monkeypatch.setattr(Follower, "unservable", cannot)
    told = Report.from_document(json.loads(json.dumps(describe_report(node, 2))))
    assert (told.result, told.applied[0], told.highest_revision, told.stop.held) == ("ACK", 3, 3, 2)
    assert (len(told.stop.surplus), len(told.unservable), told.unservable[0].code) == (50, 50, "CAPABILITY")
    assert list(told.capabilities) == sorted(node.engine.capabilities)


def test_a_report_whose_answer_was_lost_is_not_sent_again_under_its_number(hub, make_node, monkeypatch):
    hub.publish()
    node = make_node()
    numbers, send = [], node.client.report

    def lose_the_first_answer(report):
        numbers.append(report["seq"])
        send(report)
        if len(numbers) == 1:
            raise HubError("HUB_UNREACHABLE", "the answer was lost")

    monkeypatch.setattr(node.client, "report", lose_the_first_answer)
    runner = NodeRunner(node, poll_seconds=1, heartbeat_seconds=0.2)
    runner.start()
    wait_until(lambda: len(numbers) >= 3)
    runner.stop(wait_seconds=0.1)
    assert numbers == sorted(set(numbers))
