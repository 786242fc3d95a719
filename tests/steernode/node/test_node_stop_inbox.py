"""A stop that is dropped as a file, and what else may lie there."""

import json

import pytest

from tests.support.hub_simulator import make_kill, trust
from tests.support.node_rig import NIGHT, drop_stop, effective, is_steered, offline_stop

KILL = make_kill()


@pytest.fixture
def node(steering_node):
    return steering_node


def test_a_file_in_the_inbox_stops_a_node_that_starts_without_a_hub(hub, node, make_node, tmp_path):
    drop_stop(tmp_path, offline_stop(make_kill("*", kind="everything")))
    restarted = make_node(hub_url="http://127.0.0.1:9", keys=trust(hub.signer, hub.stop_signer, NIGHT))
    assert effective(restarted).reason == "killed_everything"
    assert list((tmp_path / "store/stop-inbox").iterdir()) == []
    again = make_node(hub_url="http://127.0.0.1:9", keys=trust(hub.signer, hub.stop_signer, NIGHT))
    assert effective(again).reason == "killed_everything"


def test_garbage_in_the_inbox_is_set_aside_and_said(node, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("steernode.node.stopstore._SETTLE_SECONDS", 0)
    drop_stop(tmp_path, b"garbage", "a.txt")
    (tmp_path / "store/stop-inbox/folder").mkdir()
    (tmp_path / "store/stop-inbox/link").symlink_to(tmp_path / "nowhere")
    drop_stop(tmp_path, offline_stop(KILL), "z.dsse")
    node.stops.look()
    assert effective(node).reason == "killed_tenant"
    assert sorted(path.name for path in (tmp_path / "store/stop-inbox").iterdir()) == [".refused-a.txt", ".refused-folder", ".refused-link"]
    assert "is set aside" in caplog.text


def test_a_file_that_is_still_being_copied_is_not_set_aside(node, tmp_path):
    envelope = offline_stop(KILL)
    drop_stop(tmp_path, envelope[:100])
    node.stops.look()
    assert is_steered(node)
    drop_stop(tmp_path, envelope)
    node.stops.look()
    assert effective(node).reason == "killed_tenant"


def test_a_stop_for_another_environment_is_kept_and_changes_nothing_here(node, tmp_path):
    drop_stop(tmp_path, offline_stop(make_kill(environment="staging")))
    node.stops.look()
    assert is_steered(node)
    assert len(json.loads((tmp_path / "store/stops.json").read_bytes())["held"]) == 1
