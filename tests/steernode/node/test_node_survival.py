"""What survives a restart, a damaged disk and the loss of the hub."""

import pytest

from steernode.canonical import sha256_hex
from steernode.errors import HubError, NodeError
from steernode.node.follower import PollOutcome
from steernode.node.report import describe_report, readiness_problem
from tests.support.hub_simulator import (
    VECTOR,
    Signer,
    make_content,
    make_document,
    make_flag,
    make_profile,
)
from tests.support.node_rig import effective, is_steered, refused


def test_a_node_starts_from_disk_while_the_hub_is_down(hub, make_node):
    hub.publish(3)
    make_node().poll()
    node = make_node(hub_url="http://127.0.0.1:9")
    assert is_steered(node)
    assert node.in_force.snapshot.revision == 3
    with pytest.raises(HubError) as caught:
        node.poll()
    assert caught.value.code == "HUB_UNREACHABLE"
    assert is_steered(node)


def test_a_restarted_node_asks_with_its_etag_and_still_refuses_what_is_older(hub, make_node):
    hub.publish(3)
    make_node().poll()
    node = make_node()
    assert node.poll() is PollOutcome.UNCHANGED
    assert hub.requests[-1]["etag"] == hub.etag
    hub.publish(2)
    assert refused(node) == "ROLLBACK"


def test_a_flipped_bit_in_a_stored_vector_is_fetched_again_or_not_used(hub, make_node, tmp_path):
    hub.publish()
    make_node().poll()
    path = tmp_path / "store/blobs" / sha256_hex(VECTOR)
    data = bytearray(VECTOR)
    data[-1] ^= 1
    path.write_bytes(data)
    hubless = make_node(hub_url="http://127.0.0.1:9")
    assert not is_steered(hubless)
    assert [each["code"] for each in hubless.unservable] == ["BLOB_MISSING"]
    assert is_steered(make_node())
    assert path.read_bytes() == VECTOR


@pytest.mark.parametrize("damage", [b"", b"nonsense", None, "other key", "cut"])
def test_a_damaged_stored_snapshot_means_no_steering_but_the_highest_revision_is_kept(hub, make_node, tmp_path, damage):
    hub.publish(7)
    make_node().poll()
    path = tmp_path / "store/snapshot.dsse"
    if damage is None:
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.write_bytes(Signer().sign(make_document(8)) if damage == "other key" else damage)
    node = make_node()
    assert effective(node).reason == "no_snapshot"
    assert describe_report(node, 1)["result"] == "NACK"
    hub.publish(6)
    assert refused(node) == "ROLLBACK"
    assert hub.requests[-1]["etag"] is None
    hub.publish(7)
    assert node.poll() is PollOutcome.APPLIED


@pytest.mark.parametrize("damage", [b"", b"{}", b"nonsense", b'{"schema":"steerhub.node-state/9"}'])
def test_a_damaged_state_means_no_steering_but_the_signed_bytes_still_say_how_far_it_was(hub, make_node, tmp_path, damage, caplog):
    hub.publish(7)
    make_node().poll()
    (tmp_path / "store/state.json").write_bytes(damage)
    node = make_node()
    assert effective(node).reason == "no_snapshot"
    assert "starting without steering" in caplog.text
    assert describe_report(node, 1)["code"] == "STORE_CORRUPT"
    hub.publish(6)
    assert refused(node) == "ROLLBACK"
    hub.publish(8)
    assert node.poll() is PollOutcome.APPLIED
    assert describe_report(node, 2)["result"] == "ACK"


def test_power_lost_between_snapshot_and_state_leaves_the_newer_snapshot(hub, make_node, tmp_path):
    hub.publish(1)
    make_node().poll()
    hub.publish(2, content=make_content(flags=[make_flag(alpha_scale="0.5")]))
    (tmp_path / "store/snapshot.dsse").write_bytes(hub.envelope)
    assert make_node(hub_url="http://127.0.0.1:9").in_force.snapshot.revision == 2


def test_a_store_of_another_environment_stops_the_start(hub, make_node):
    hub.publish()
    make_node().poll()
    with pytest.raises(NodeError) as caught:
        make_node(environment="staging")
    assert caught.value.code == "STORE_ENVIRONMENT"


@pytest.mark.parametrize(("policy", "reason"), [("zero", "stale"), ("keep", "flag_on")])
def test_losing_the_hub_is_handled_by_the_profiles_stale_policy(hub, make_node, clock, policy, reason):
    hub.publish(content=make_content(profiles=[make_profile(stale_policy=policy)]))
    node = make_node()
    node.poll()
    hub.fail_with = 503
    clock.advance(seconds=900)
    with pytest.raises(HubError):
        node.poll()
    assert is_steered(node)
    assert readiness_problem(node.in_force, node.now()) is None
    clock.advance(seconds=1)
    assert effective(node).reason == reason
    assert readiness_problem(node.in_force, node.now()) == "stale"
    hub.fail_with = None
    node.poll()
    assert is_steered(node)


def test_a_node_reports_although_every_arm_gives_another_revision_than_its_flag_names(hub, make_node):
    arms = [{"name": "next", "weight": 1, "profile": "harbor-empathy", "revision": 4, "alpha_scale": "1"}]
    hub.publish(content=make_content(profiles=[make_profile(revision=4)], flags=[make_flag(revision=3, arms=arms)]))
    node = make_node()
    node.poll()
    assert describe_report(node, 1)["result"] == "ACK"
    assert is_steered(node)


@pytest.mark.parametrize(("policy", "reason"), [("zero", "stale"), ("keep", "flag_on")])
def test_an_expired_snapshot_still_loads_after_a_restart_and_only_its_age_counts(hub, make_node, clock, policy, reason):
    hub.publish(content=make_content(profiles=[make_profile(stale_policy=policy, max_staleness_seconds=7200)]))
    make_node().poll()
    clock.advance(seconds=7200)
    node = make_node(hub_url="http://127.0.0.1:9")
    assert describe_report(node, 1)["result"] == "STALE"
    assert is_steered(node)
    clock.advance(seconds=1)
    assert effective(node).reason == reason


def test_an_answer_of_not_modified_cannot_prolong_an_expired_snapshot(hub, make_node, clock):
    """Somebody who can only repeat 304 must not be able to keep a node steering past what was signed."""
    hub.publish()
    node = make_node()
    node.poll()
    for _ in range(8):
        clock.advance(minutes=10)
        assert node.poll() is PollOutcome.UNCHANGED
    assert effective(node).reason == "stale"


def test_staleness_is_counted_from_the_contact_that_a_heartbeat_wrote_down(hub, make_node, clock):
    hub.publish()
    node = make_node()
    node.poll()
    clock.advance(seconds=800)
    node.poll()
    node.remember_contact()
    clock.advance(seconds=800)
    assert is_steered(make_node(hub_url="http://127.0.0.1:9"))
    clock.advance(seconds=101)
    assert not is_steered(make_node(hub_url="http://127.0.0.1:9"))
