"""Stopping a node from the command line while there is no hub."""

import json
import shlex
import stat

import pytest

from steernode.dsse import TrustedKeys
from steernode.stop.trust import believe_stop, read_stop
from tests.support.node_rig import effective, is_steered


@pytest.fixture
def night_key(steer, tmp_path):
    """A key of the night shift: its file, and the entry of the trust document that was printed."""
    made = steer("stop-key", "--issuer", "night shift", "-o", tmp_path / "night.pem")
    assert made.exit_code == 0, made.output
    setting, entry = made.stdout.splitlines()[:2]
    # The line can be pasted after `export`.
    assert shlex.split(setting) == [f"STEERHUB_OFFLINE_STOP_KEYS=night shift={json.loads(entry)['public_key']}"]
    assert stat.S_IMODE((tmp_path / "night.pem").stat().st_mode) == 0o600
    return tmp_path / "night.pem", json.loads(entry)


def trust_document(*entries):
    return {"schema": "steerhub.trust/1", "keys": list(entries)}


def write_stop_file(steer, night_key, output, *kill):
    return steer("kill", "--offline", "--key", night_key[0], "--issuer", "night shift", "--reason", "incident", "-o", output, *kill)


@pytest.mark.parametrize(
    ("kill", "written"),
    [
        (["--kind", "everything"], ("everything", "", "*")),
        (["--kind", "everything", "--target", "*"], ("everything", "", "*")),
        (["--kind", "environment", "--environment", "production"], ("environment", "", "production")),
        (["--kind", "tenant", "--target", "harbor"], ("tenant", "", "harbor")),
        (["--kind", "profile", "--target", "warm", "--environment", "staging"], ("profile", "staging", "warm")),
    ],
)
def test_an_offline_stop_is_signed_by_its_issuer_without_asking_a_hub(
    steer, recording_hub, night_key, tmp_path, monkeypatch, kill, written
):
    monkeypatch.delenv("STEERHUB_TOKEN")
    assert write_stop_file(steer, night_key, tmp_path / "stop", *kill).exit_code == 0
    keys = TrustedKeys.from_document(trust_document(night_key[1]))
    statement, _digest, _may = believe_stop((tmp_path / "stop").read_bytes(), keys=keys, moments=())
    found = statement.kills[0]
    assert (found.kind, found.environment, found.target) == written
    assert (statement.issuer, statement.reason, statement.sequence > 10**12) == ("night shift", "incident", True)
    assert recording_hub.sent == []


@pytest.mark.parametrize(
    ("kill", "code"),
    [
        (["--kind", "tenant", "--target", "harbor "], "SPELLING"),
        (["--kind", "tenant", "--target", "har\u200bbor"], "SPELLING"),
        (["--kind", "profile", "--target", "warm", "--environment", " staging"], "SPELLING"),
        (["--kind", "environment", "--target", "staging", "--environment", "production"], "KILL_TARGET"),
        (["--kind", "everything", "--target", "harbor"], "KILL_TARGET"),
        (["--kind", "environment"], "needs --target"),
    ],
)
def test_an_offline_stop_of_what_no_hub_would_take_stops_nobody_and_is_not_written(steer, night_key, tmp_path, kill, code):
    answer = write_stop_file(steer, night_key, tmp_path / "stop", *kill)
    assert (answer.exit_code > 0, code in answer.output) == (True, True), answer.output
    assert not (tmp_path / "stop").exists()


def test_an_offline_stop_names_its_target_in_the_one_form(steer, night_key, tmp_path):
    write_stop_file(steer, night_key, tmp_path / "stop", "--kind", "tenant", "--target", "ha\u0301rbor")
    assert read_stop((tmp_path / "stop").read_bytes())[0].kills[0].target == "h\u00e1rbor"


def test_a_dropped_stop_is_obeyed_and_a_later_one_has_an_id_of_its_own(steer, hub, make_node, night_key, tmp_path):
    hub.publish(1)
    keys = TrustedKeys.from_document(trust_document(hub.signer.key_document(), night_key[1]))
    node = make_node(keys=keys)
    node.poll()
    assert is_steered(node)
    for name in ("first", "second"):
        write_stop_file(steer, night_key, tmp_path / name, "--kind", "tenant", "--target", "harbor")
        dropped = steer("node", "stop", "--file", tmp_path / name, "--store", tmp_path / "store")
        assert dropped.exit_code == 0, dropped.output
        assert "of night shift: tenant harbor" in dropped.output
    node.stops.look()
    assert effective(node).reason == "killed_tenant"
    assert len(node.stops.heard.held) == 2


def test_a_file_that_is_no_stop_or_a_folder_that_is_no_store_is_refused(steer, night_key, tmp_path):
    (tmp_path / "garbage").write_bytes(b"garbage")
    (tmp_path / "trust").write_text(json.dumps(trust_document(night_key[1] | {"issuer": "day shift"})))
    write_stop_file(steer, night_key, tmp_path / "stop", "--kind", "everything")
    (tmp_path / "empty").mkdir()
    (tmp_path / "store/stop-inbox").mkdir(parents=True)
    for file, store, more, code in (
        ("garbage", "store", [], "ENVELOPE"),
        ("stop", "nowhere", [], "STORE_MISSING"),
        ("stop", "empty", [], "STORE_MISSING"),
        ("stop", "store", ["--trust", tmp_path / "trust"], "ISSUER"),
    ):
        answer = steer("node", "stop", "--file", tmp_path / file, "--store", tmp_path / store, *more)
        assert (answer.exit_code, code in answer.output) == (1, True), answer.output
    (tmp_path / "store/trust.json").write_bytes((tmp_path / "trust").read_bytes())
    assert "ISSUER" in steer("node", "stop", "--file", tmp_path / "stop", "--store", tmp_path / "store").output
    assert list((tmp_path / "store/stop-inbox").iterdir()) == list((tmp_path / "empty").iterdir()) == []


def test_a_key_is_never_overwritten_and_must_be_one(steer, night_key, tmp_path):
    assert "FILE_UNWRITABLE" in steer("stop-key", "--issuer", "night shift", "-o", night_key[0]).output
    assert steer("stop-key", "--issuer", "hub", "-o", tmp_path / "other").exit_code == 2
    (tmp_path / "odd.pem").write_text("no key")
    answer = write_stop_file(steer, [tmp_path / "odd.pem"], tmp_path / "s", "--kind", "everything")
    assert "STOP_KEY" in answer.output


def test_a_reason_that_no_record_would_keep_is_refused(steer, night_key, tmp_path):
    answer = write_stop_file(steer, night_key, tmp_path / "stop", "--kind", "everything", "--reason", "x" * 1_001)
    assert (answer.exit_code, "SCHEMA" in answer.output, (tmp_path / "stop").exists()) == (1, True, False), answer.output


@pytest.mark.parametrize(
    "arguments", [["--offline"], ["--offline", "--key", "k"], ["--key", "k"], ["--offline", "--issuer", "i", "-o", "f"]]
)
def test_half_of_an_offline_stop_is_wrong_usage(steer, recording_hub, arguments):
    assert steer("kill", "--kind", "everything", "--reason", "r", *arguments).exit_code == 2
    assert recording_hub.sent == []
