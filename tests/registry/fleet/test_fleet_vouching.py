"""Who has not read the record does not say that nothing is new."""

import asyncio
import threading
import time

import httpx
import psycopg
import pytest

from registry.fleet import heads
from registry.models import StopStatement
from registry.snapshots import read_envelope
from tests.support.api import code_of
from tests.support.hub import serve_hub
from tests.support.serving import wait_until

SNAPSHOT = "/fleet/v1/environments/production/snapshot"
EVENTS = "/fleet/v1/environments/production/events"
STOP = "/fleet/v1/environments/production/stop"
VOUCHES_FOR = 1.5


@pytest.fixture
def etags(pull, monkeypatch) -> dict[str, str]:
    """Of the snapshot and of the stop. From now on the process vouches for a second and a half."""
    monkeypatch.setattr(heads, "VOUCHES_FOR_SECONDS", VOUCHES_FOR)
    wait_until(lambda: StopStatement.objects.exists(), seconds=5)
    wait_until(lambda: pull.get(STOP).headers.get("stop-digest") == StopStatement.objects.get().digest, seconds=5)
    return {address: pull.get(address).headers["etag"] for address in (SNAPSHOT, STOP)}


@pytest.fixture
def cut(monkeypatch):
    """The process is cut off from its database; called again it is not."""

    async def fail(self) -> None:
        raise psycopg.OperationalError("the network is gone")

    whole = heads.Heads._look
    return lambda on=True: monkeypatch.setattr(heads.Heads, "_look", fail if on else whole)


@pytest.fixture
def partitioned(monkeypatch):
    """The process is cut off so that no side is told: a look neither succeeds nor fails."""

    mended = threading.Event()

    async def hang(self) -> None:
        while not mended.is_set():
            await asyncio.sleep(0.05)

    yield lambda: monkeypatch.setattr(heads.Heads, "_look", hang)
    mended.set()


def age_of(answer) -> float:
    return float(answer.headers["record-age"])


@pytest.mark.parametrize("address", [SNAPSHOT, STOP])
def test_304_ends_when_the_record_is_not_read_and_what_is_sent_says_how_old_it_is(pull, etags, cut, address):
    known = {"If-None-Match": etags[address]}
    assert pull.get(address, headers=known).status_code == 304
    cut()
    wait_until(lambda: pull.get(address, headers=known).status_code == 503, seconds=VOUCHES_FOR + 2)
    refused = pull.get(address, headers=known)
    assert code_of(refused) == (503, "RECORD_NOT_READ")
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert age_of(refused) > VOUCHES_FOR
    sent = pull.get(address)
    assert (sent.status_code, age_of(sent) > VOUCHES_FOR) == (200, True)
    cut(False)
    wait_until(lambda: pull.get(address, headers=known).status_code == 304, seconds=3)
    assert age_of(pull.get(address)) < VOUCHES_FOR


@pytest.mark.parametrize("address", [SNAPSHOT, STOP])
@pytest.mark.parametrize("how", ["cut", "partitioned"])
def test_a_held_poll_ends_when_the_record_is_not_read_any_more(pull, etags, request, how, address):
    cut = request.getfixturevalue(how)
    held: list[httpx.Response] = []
    poll = threading.Thread(target=lambda: held.append(pull.get(address, headers={"If-None-Match": etags[address], "Prefer": "wait=15"})))
    poll.start()
    time.sleep(0.3)
    cut()
    poll.join(VOUCHES_FOR + 5)
    assert code_of(held[0]) == (503, "RECORD_NOT_READ")


def test_a_stream_ends_without_a_heartbeat(pull, etags, cut, monkeypatch):
    monkeypatch.setattr("registry.fleet.events.HEARTBEAT_SECONDS", 0.2)
    beats = []
    with pull.stream("GET", EVENTS) as stream:
        cut()
        started = time.monotonic()
        for line in stream.iter_lines():
            if line.startswith(":"):
                beats.append(time.monotonic() - started)
    assert max(beats) < VOUCHES_FOR + 1
    assert code_of(pull.get(EVENTS)) == (503, "RECORD_NOT_READ")


def test_a_token_is_not_unknown_to_who_cannot_look(pull, etags, cut, hub):
    """Another process may have given it a moment ago, and who is told that it is unknown asks again after a minute."""
    stranger = {"Authorization": f"Bearer shn_{'s' * 43}"}
    assert code_of(httpx.get(f"{hub}{STOP}", headers=stranger)) == (401, "NOT_AUTHENTICATED")
    cut()
    assert code_of(httpx.get(f"{hub}{STOP}", headers=stranger)) == (503, "UNAVAILABLE")
    assert pull.get(STOP).status_code == 200


def test_the_age_is_told_by_a_clock_that_nobody_sets(pull, etags, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 0.0)
    answer = pull.get(SNAPSHOT, headers={"If-None-Match": etags[SNAPSHOT]})
    assert (answer.status_code, age_of(answer) < 3) == (304, True)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("address", [SNAPSHOT, EVENTS])
def test_whoever_asks_in_the_middle_of_the_first_look_waits_for_its_end(node, production, monkeypatch, address):
    """By then the nodes are known and the snapshots are not: "has no snapshot yet" would be false."""
    may_read, reads, statuses = threading.Event(), threading.Event(), []

    def read(payload, signatures):
        reads.set()
        may_read.wait(5)
        return read_envelope(payload, signatures)

    monkeypatch.setattr(heads, "read_envelope", read)

    def ask(url) -> None:
        with httpx.stream("GET", url, headers={"Authorization": f"Bearer {node[1]}"}, timeout=10) as answer:
            statuses.append(answer.status_code)

    with serve_hub() as hub:
        thread = threading.Thread(target=ask, args=(f"{hub}{address}",))
        assert reads.wait(5)
        thread.start()
        thread.join(0.3)
        assert statuses == []
        may_read.set()
        thread.join(5)
        assert statuses == [200]
