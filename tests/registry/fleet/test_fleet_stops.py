"""The stop's own road at the hub: its statement, what every answer says of it, and what nodes hand back."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection

from registry.models import AuditEvent, Kill, ServingNode, StopStatement
from registry.services.kills import confirm_lift, engage_kill, request_lift
from registry.snapshots import read_stop_envelope, sign
from steernode.canonical import sha256_hex
from steernode.dsse import sign_envelope, write_public_key
from steernode.stop.document import HUB, PAYLOAD_TYPE, StoppedKill, parse_stop, write_stop
from steernode.stop.document import StopStatement as StopDocument
from tests.support.api import code_of
from tests.support.serving import wait_until

SNAPSHOT = "/fleet/v1/environments/production/snapshot"
EVENTS = "/fleet/v1/environments/production/events"
STOP = "/fleet/v1/environments/production/stop"
REPORT = "/fleet/v1/nodes/node-1/report"


def is_newest(answer: httpx.Response) -> bool:
    """Whether the hub serves what this test's registry has: it served another before."""
    newest = StopStatement.objects.first()
    return newest is not None and answer.headers.get("stop-digest") == newest.digest


@pytest.fixture
def first(pull):
    """The answer to GET stop once the hub has issued its first statement."""
    wait_until(lambda: is_newest(pull.get(STOP)), seconds=5)
    return pull.get(STOP)


@pytest.fixture
def kill(oscar):
    """Engages a kill after a moment, in a thread; the thread has `at` of its commit."""

    def later(seconds: float, kind: str = "everything", target: str = "") -> threading.Thread:
        def run() -> None:
            time.sleep(seconds)
            engage_kill(kind, target=target, reason="drill", actor=oscar)
            thread.at = time.monotonic()
            connection.close()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    return later


def test_there_is_a_statement_before_anything_is_killed(first):
    stop = StopStatement.objects.get()
    assert first.content == read_stop_envelope(stop.payload_zlib, stop.signatures)
    assert first.headers["etag"] == f'"{stop.digest}"'
    assert parse_stop(stop.payload).kills == ()
    assert json.loads(bytes(AuditEvent.objects.get(action="stop.issued").body))["details"]["sequence"] == stop.sequence


def test_head_and_etag_of_the_stop(pull, first):
    etag = first.headers["etag"]
    assert pull.head(STOP).headers["content-length"] == str(len(first.content))
    assert pull.get(STOP, headers={"If-None-Match": etag}).status_code == 304
    assert pull.get(STOP, headers={"If-None-Match": '"other"'}).status_code == 200


def test_only_a_node_of_the_environment_is_given_a_stop(pull, hub, first):
    assert code_of(httpx.get(f"{hub}{STOP}")) == (401, "NOT_AUTHENTICATED")
    assert code_of(pull.get("/fleet/v1/environments/staging/stop")) == (403, "ENVIRONMENT")
    assert code_of(pull.delete(STOP)) == (405, "METHOD_NOT_ALLOWED")


def test_every_answer_says_which_stop_is_the_newest_and_when_the_record_was_read(pull, hub, first):
    stop = StopStatement.objects.get()
    etag = pull.get(SNAPSHOT).headers["etag"]
    answers = [
        pull.get(SNAPSHOT),
        pull.get(SNAPSHOT, headers={"If-None-Match": etag}),
        pull.head(SNAPSHOT),
        first,
        pull.get("/fleet/v1/trust"),
        pull.get("/fleet/v1/nowhere"),
        pull.get("/fleet/v1/environments/staging/snapshot"),
        httpx.get(f"{hub}{SNAPSHOT}"),
        pull.post(REPORT, json={"wrong": True}),
    ]
    with pull.stream("GET", EVENTS) as stream:
        answers.append(stream)
    for answer in answers:
        said = answer.headers
        assert (said["stop-sequence"], said["stop-digest"]) == (str(stop.sequence), stop.digest), answer.url
        assert 0 <= float(said["record-age"]) < 3
        assert len(said["record-age"].partition(".")[2]) == 3


@pytest.mark.parametrize("address", [SNAPSHOT, STOP])
def test_a_kill_answers_a_held_poll(pull, first, kill, address):
    etag = pull.get(address).headers["etag"]
    thread = kill(0.4)
    answer = pull.get(address, headers={"If-None-Match": etag, "Prefer": "wait=10", "Stop-Digest": first.headers["stop-digest"]})
    waited = time.monotonic()
    thread.join()
    assert waited - thread.at < 1
    assert answer.headers["stop-digest"] == StopStatement.objects.first().digest != first.headers["stop-digest"]
    assert answer.status_code == (304 if address == SNAPSHOT else 200)


def test_a_poll_that_states_another_stop_is_answered_at_once_and_then_every_second(pull, first, oscar):
    etag = pull.get(SNAPSHOT).headers["etag"]
    poll = {"If-None-Match": etag, "Prefer": "wait=10", "Stop-Digest": "0" * 64}

    def ask() -> float:
        started = time.monotonic()
        assert pull.get(SNAPSHOT, headers=poll).status_code == 304
        return time.monotonic() - started

    assert ask() < 0.5
    assert 0.5 < ask() < 2


def test_a_stream_tells_of_stops(pull, first, kill):
    thread = None
    told = []
    with pull.stream("GET", EVENTS) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: ") and "digest" in line:
                told.append(json.loads(line[6:]))
                if len(told) == 2:
                    break
                thread = kill(0.2)
    thread.join()
    assert [each["digest"] for each in told] == list(StopStatement.objects.order_by("sequence").values_list("digest", flat=True))
    assert told[1]["sequence"] > told[0]["sequence"]


# -- Handed back ------------------------------------------------------------------------------------------------------------------


def make_stop(*kills: StoppedKill, key=None, issuer: str = HUB, sequence: int = 7, reason: str = "") -> bytes:
    payload = write_stop(StopDocument(issuer, sequence, datetime(2026, 11, 1, tzinfo=UTC), kills, reason=reason))
    return sign_envelope(payload, PAYLOAD_TYPE, key or sign.stop_key())


def stopped(kind: str, target: str, environment: str = "") -> StoppedKill:
    return StoppedKill(kind, environment, target, uuid4().hex)


@pytest.fixture
def guard(settings):
    """The key of somebody who may stop the fleet without the hub."""
    key = Ed25519PrivateKey.generate()
    settings.STEERHUB_OFFLINE_STOP_KEYS = [("night-guard", write_public_key(key.public_key()))]
    return key


@pytest.fixture
def hand_back(pull, monkeypatch):
    monkeypatch.setattr("registry.fleet.stop._handed_back", type("Never", (), {"ring": lambda self, subject: 0})())
    return lambda envelope: pull.post(STOP, content=envelope)


def test_what_a_restored_hub_lost_comes_back_with_its_ids(hand_back, first, harbor, production):
    lost = stopped("tenant", "harbor", "production"), stopped("profile", "never-heard-of"), stopped("everything", "*")
    lost += stopped("environment", "production"), stopped("environment", "elsewhere")
    envelope = make_stop(*lost)
    assert hand_back(envelope).status_code == 204
    rows = {kill.pk.hex: kill for kill in Kill.objects.all()}
    assert set(rows) == {kill.id for kill in lost}
    of_harbor, of_nothing, *_ = [rows[kill.id] for kill in lost]
    assert (of_harbor.tenant, of_harbor.environment, of_harbor.is_narrowed) == (harbor, production, True)
    assert (of_nothing.target, of_nothing.profile, of_nothing.engaged_by) == ("never-heard-of", None, None)
    assert (of_harbor.issuer, of_harbor.reported_by.name) == ("hub", "node-1")
    newest = parse_stop(StopStatement.objects.first().payload)
    assert set(newest.kills) == set(lost)
    assert newest.adopted == frozenset()
    events = AuditEvent.objects.filter(action="kill.adopted")
    assert (events.count(), {event.actor_name for event in events}) == (5, {"node-1"})
    # A second time there is nothing to do.
    assert hand_back(envelope).status_code == 204
    assert (Kill.objects.count(), StopStatement.objects.count(), events.count()) == (5, 2, 5)


def test_an_offline_stop_is_adopted_and_released_by_its_digest_once_all_of_it_is_lifted(hand_back, first, guard, harbor, oscar, grace):
    kills = stopped("tenant", "harbor"), stopped("everything", "*")
    envelope = make_stop(*kills, key=guard, issuer="night-guard", reason="The hub is down.")
    digest = sha256_hex(write_stop(StopDocument("night-guard", 7, datetime(2026, 11, 1, tzinfo=UTC), kills, reason="The hub is down.")))
    assert hand_back(envelope).status_code == 204
    newest = parse_stop(StopStatement.objects.first().payload)
    assert (set(newest.kills), newest.adopted, newest.released) == (set(kills), {digest}, frozenset())
    released = []
    for kill in Kill.objects.all():
        assert (kill.issuer, kill.statement_digest) == ("night-guard", digest)
        assert kill.reason.startswith("The hub is down. (Stopped by night-guard offline")
        request_lift(kill.pk, reason="over", actor=oscar)
        confirm_lift(kill.pk, actor=grace)
        released.append(parse_stop(StopStatement.objects.first().payload).released)
    assert [digest in each for each in released] == [False, True]
    assert parse_stop(StopStatement.objects.first().payload).adopted == frozenset()


def test_what_is_lifted_stays_lifted_whoever_hands_it_back(hand_back, first, harbor, oscar, grace):
    kill = engage_kill("tenant", target="harbor", reason="x", actor=oscar)
    stop = StopStatement.objects.first()
    request_lift(kill.pk, reason="over", actor=oscar)
    confirm_lift(kill.pk, actor=grace)
    before = StopStatement.objects.count()
    assert hand_back(read_stop_envelope(stop.payload_zlib, stop.signatures)).status_code == 204
    assert (StopStatement.objects.count(), Kill.objects.filter(lifted_at=None).count()) == (before, 0)


def test_only_who_may_stop_is_believed(hand_back, first, guard):
    stranger = Ed25519PrivateKey.generate()
    everything = stopped("everything", "*")
    refused = [
        (make_stop(everything, key=stranger), (422, "SIGNATURE")),
        # An offline key does not speak for the hub, nor for another, nor does the key of snapshots stop anybody.
        (make_stop(everything, key=guard), (422, "ISSUER")),
        (make_stop(everything, key=guard, issuer="day-guard"), (422, "ISSUER")),
        (make_stop(everything, key=sign.signing_key()), (422, "SIGNATURE")),
        (b"{}", (422, "ENVELOPE")),
        (b"", (422, "ENVELOPE")),
    ]
    for envelope, expected in refused:
        assert code_of(hand_back(envelope)) == expected
    assert not Kill.objects.exists()


def test_handing_back_is_bounded_in_size_and_rate(pull, first, monkeypatch):
    monkeypatch.setattr("registry.fleet.stop.MAX_ENVELOPE_BYTES", 10_000)
    assert code_of(pull.post(STOP, content=b" " * 10_001)) == (413, "STOP_TOO_LARGE")
    again = pull.post(STOP, content=make_stop())
    assert code_of(again) == (503, "STOP_TOO_OFTEN")
    assert int(again.headers["retry-after"]) >= 1


# -- Without a kill or a lift -------------------------------------------------------------------------------------------------------


def test_a_hub_that_was_restored_rises_above_what_nodes_heard_by_itself(first, monkeypatch):
    sequence = int(first.headers["stop-sequence"])
    for module in ("registry.services.stops", "registry.snapshots.stops"):
        monkeypatch.setattr(f"{module}.highest_stop_reported", lambda: sequence + 5_000_000)
    wait_until(lambda: StopStatement.objects.first().sequence == sequence + 5_000_001, seconds=5)


def test_what_a_node_still_obeys_though_it_was_lifted_is_released_again(first, harbor, oscar, grace, monkeypatch):
    kill = engage_kill("tenant", target="harbor", reason="x", actor=oscar)
    monkeypatch.setattr("registry.snapshots.stops._list_released", frozenset)
    request_lift(kill.pk, reason="over", actor=oscar)
    confirm_lift(kill.pk, actor=grace)
    assert parse_stop(StopStatement.objects.first().payload).released == frozenset()
    monkeypatch.undo()
    monkeypatch.setattr("registry.services.stops.ISSUED_FOR_NODES_EVERY", timedelta(0))
    ServingNode.objects.update(stop_digest=StopStatement.objects.first().digest, stop_surplus=[kill.pk.hex])
    wait_until(lambda: parse_stop(StopStatement.objects.first().payload).released == {kill.pk.hex}, seconds=5)
    # And not again and again.
    issued = StopStatement.objects.count()
    time.sleep(1.5)
    assert StopStatement.objects.count() == issued
