"""A node enrols over its socket, by a one-time token and a key it proves to have; and a withdrawn one is given nothing more."""

import json
import threading
import time

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry.models import ServingNode
from registry.services.nodes import invite_node, withdraw_node
from steernode.canonical import canonical_json
from steernode.dsse import sign_envelope, write_public_key
from steernode.errors import HubError
from steernode.hub.client import enroll
from steernode.node.identity import IDENTITY_FILE, enroll_here, read_identity, read_trusted
from steernode.records.enrolment import ENROLMENT_TYPE, sign_enrolment
from tests.support.api import code_of
from tests.support.nodes import applied, report

ENROLL = "/fleet/v1/enroll"
SNAPSHOT = "/fleet/v1/environments/production/snapshot"


@pytest.fixture
def invited(production, oscar):
    return invite_node("node-1", environment=production, actor=oscar)[1]


def test_a_node_enrols_pulls_and_reports_as_itself(hub, invited, tmp_path):
    made = enroll_here(tmp_path / "store", hub_url=hub, name="node-1", secret=invited)
    identity = read_identity(tmp_path / "store")
    assert (identity.environment, identity.name, identity.token) == ("production", "node-1", made.token)
    assert (tmp_path / "store" / IDENTITY_FILE).stat().st_mode & 0o777 == 0o600
    client = identity.connect()
    assert client.snapshot(None).etag
    client.report(report(applied=applied()))
    assert ServingNode.objects.get().last_result == "ACK"
    assert len(read_trusted(tmp_path / "store").keys) == 2
    client.close()


def test_a_used_token_enrols_nobody_and_changes_nothing_on_the_node(hub, invited, tmp_path):
    made = enroll_here(tmp_path, hub_url=hub, name="node-1", secret=invited)
    with pytest.raises(HubError) as caught:
        enroll_here(tmp_path, hub_url=hub, name="node-1", secret=invited)
    assert caught.value.code == "ENROLMENT_TOKEN"
    assert read_identity(tmp_path).token == made.token


def test_a_rotated_node_may_keep_its_key(hub, invited, tmp_path, api, oscar):
    first = enroll_here(tmp_path, hub_url=hub, name="node-1", secret=invited)
    again = api(oscar).post("/api/v1/nodes/node-1/rotate").json()["enrolment_token"]
    second = enroll_here(tmp_path, hub_url=hub, name="node-1", secret=again, keep_key=True)
    assert write_public_key(second.key.public_key()) == write_public_key(first.key.public_key())
    assert second.token != first.token
    assert httpx.get(f"{hub}{SNAPSHOT}", headers={"Authorization": f"Bearer {second.token}"}).status_code == 200
    assert code_of(httpx.get(f"{hub}{SNAPSHOT}", headers={"Authorization": f"Bearer {first.token}"})) == (401, "TOKEN_REPLACED")


def test_an_enrolment_is_signed_with_its_own_key_and_read_strictly(hub, invited):
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    document = {"name": "node-1", "public_key": write_public_key(key.public_key())}
    headers = {"Authorization": f"Bearer {invited}"}
    bad = [
        (sign_envelope(canonical_json(document), ENROLMENT_TYPE, other), (422, "ENROLMENT_SHAPE")),
        (sign_envelope(canonical_json(document), "text/plain", key), (422, "ENROLMENT_SHAPE")),
        (sign_envelope(canonical_json(document | {"surprise": 1}), ENROLMENT_TYPE, key), (422, "ENROLMENT_SHAPE")),
        (sign_envelope(canonical_json(document | {"public_key": "AAAA"}), ENROLMENT_TYPE, key), (422, "ENROLMENT_SHAPE")),
        (sign_envelope(b"nonsense", ENROLMENT_TYPE, key), (400, "JSON_SYNTAX")),
        (json.dumps(document).encode(), (422, "ENROLMENT_SHAPE")),
        (b"", (422, "ENROLMENT_SHAPE")),
    ]
    for body, expected in bad:
        assert code_of(httpx.post(f"{hub}{ENROLL}", content=body, headers=headers)) == expected, body
    whole = sign_enrolment("node-1", key)
    for token in ("", "Bearer nonsense", f"Basic {invited}", "Bearer shn_" + "x" * 49):
        assert code_of(httpx.post(f"{hub}{ENROLL}", content=whole, headers={"Authorization": token})) == (401, "NOT_AUTHENTICATED")
    assert ServingNode.objects.get().enrolled_at is None
    assert httpx.post(f"{hub}{ENROLL}", content=whole, headers=headers).status_code == 200


def test_a_token_of_another_kind_enrols_nobody(hub, node, invited_twin):
    with pytest.raises(HubError) as caught:
        enroll(hub, "node-1", node[1], Ed25519PrivateKey.generate())
    assert caught.value.code == "ENROLMENT_TOKEN"


@pytest.fixture
def invited_twin(production, oscar):
    return invite_node("node-2", environment=production, actor=oscar)


def test_a_held_poll_of_a_withdrawn_node_ends_without_the_new_head(hub, node, production, oscar):
    record, token = node
    headers = {"Authorization": f"Bearer {token}"}
    etag = httpx.get(f"{hub}{SNAPSHOT}", headers=headers).headers["etag"]
    answers = []

    def hold() -> None:
        # The first stop statement of all ends a poll, too.
        while not answers or answers[-1].status_code == 304:
            answers.append(httpx.get(f"{hub}{SNAPSHOT}", headers={**headers, "If-None-Match": etag, "Prefer": "wait=20"}, timeout=30))

    thread = threading.Thread(target=hold)
    thread.start()
    time.sleep(0.5)
    withdraw_node(record, reason="Its machine is gone.", actor=oscar)
    thread.join(3)
    assert code_of(answers[-1]) == (401, "NODE_WITHDRAWN")


def test_a_stream_of_a_withdrawn_node_ends_without_the_new_head(hub, node, oscar):
    record, token = node
    lines: list[str] = []

    def listen() -> None:
        url = f"{hub}/fleet/v1/environments/production/events"
        with httpx.stream("GET", url, headers={"Authorization": f"Bearer {token}"}, timeout=20) as stream:
            lines.extend(stream.iter_lines())

    thread = threading.Thread(target=listen)
    thread.start()
    time.sleep(0.5)
    withdraw_node(record, reason="Its machine is gone.", actor=oscar)
    thread.join(3)
    assert not thread.is_alive()
    news = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    # Of stops it may have been told before.
    assert [each["revision"] for each in news if "revision" in each] == [1]
