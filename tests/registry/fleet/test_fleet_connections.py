"""Held connections leave room for everybody else: at most so many of one node, so many in all, and always some descriptors."""

import resource
import socket
import threading

import httpx
import pytest

from registry.services.kills import engage_kill
from registry.web import descriptors
from steerhub import protocol
from tests.support.api import code_of
from tests.support.hub import serve_hub
from tests.support.nodes import enroll
from tests.support.serving import served

SNAPSHOT = "/fleet/v1/environments/production/snapshot"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("address", ["snapshot", "stop", "events"])
def test_who_is_held_when_the_process_ends_is_told_so(node, production, oscar, caplog, address):
    engage_kill("everything", reason="so that there is a stop", actor=oscar)
    answers: list[httpx.Response] = []
    with httpx.Client(headers={"Authorization": f"Bearer {node[1]}"}, timeout=10) as client, serve_hub() as hub:
        url = f"{hub}/fleet/v1/environments/production/{address}"
        held = {} if address == "events" else {"If-None-Match": client.get(url).headers["etag"], "Prefer": "wait=9"}
        thread = threading.Thread(target=lambda: answers.append(client.get(url, headers=held)))
        thread.start()
        thread.join(0.5)
    # The hub has ended by now, and what it held is answered.
    thread.join(1)
    if address == "events":
        assert answers[0].text.startswith("event: stop")
    else:
        assert code_of(answers[0]) == (503, "ENDING")
    assert "Exception in ASGI application" not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_what_one_node_holds_leaves_places_for_others(node, production, oscar):
    _, other = enroll("node-2", environment=production, actor=oscar)
    with serve_hub(max_held=3, max_held_each=2) as url:
        greedy, modest = ({"Authorization": f"Bearer {token}"} for token in (node[1], other))
        etag = httpx.get(f"{url}{SNAPSHOT}", headers=greedy).headers["etag"]
        answers: list[httpx.Response] = []

        def poll(headers) -> None:
            waiting = {"If-None-Match": etag, "Prefer": "wait=2"}
            answers.append(httpx.get(f"{url}{SNAPSHOT}", headers={**headers, **waiting}, timeout=10))

        threads = [threading.Thread(target=poll, args=(greedy,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        # Those without a place are told so at once, and their connections are closed.
        for thread in threads:
            thread.join(0.5)
        assert [code_of(answer) for answer in answers] == [(503, "TOO_MANY_HELD")] * 3
        assert {answer.headers["connection"] for answer in answers} == {"close"}
        poll(modest)
        assert answers[-1].status_code == 304
        for thread in threads:
            thread.join(10)
        assert [answer.status_code for answer in answers].count(304) == 3


@pytest.fixture
def served_roomily(monkeypatch):
    """The URL of a server on which five connections may be open."""
    monkeypatch.setattr(protocol, "count_connections", lambda: 5)

    async def answer(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def application(scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await answer(scope, receive, send)

    with served(application, http=protocol.RoomyProtocol) as url:
        yield url


def connect(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=5)


def test_whoever_comes_finds_a_place_though_others_are_connected_and_say_nothing(served_roomily):
    silent = [connect(served_roomily) for _ in range(12)]
    assert httpx.get(served_roomily).status_code == 200
    # Of those the oldest gave way.
    assert silent[0].recv(1) == b""
    for each in silent:
        each.close()


def test_a_connection_that_asks_nothing_is_closed(served_roomily, monkeypatch):
    monkeypatch.setattr(protocol, "FIRST_REQUEST_SECONDS", 0.3)
    silent = connect(served_roomily)
    assert silent.recv(1) == b""
    silent.close()


def test_there_are_fewer_places_than_descriptors(monkeypatch):
    def places(soft: int) -> int:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
        return descriptors.count_places()

    assert [places(soft) for soft in (100_000, 2_256, 1_024, 300, 100)] == [2_000, 2_000, 768, 44, 1]
    assert places(resource.RLIM_INFINITY) == 2_000


def test_the_soft_limit_is_raised_to_what_the_process_may_ask_for(monkeypatch):
    limits = [1_024, 4_096]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.__setitem__(slice(None), new))
    assert descriptors.raise_limit() == 4_096
    assert limits == [4_096, 4_096]


def test_a_limit_below_what_is_held_is_a_warning_that_stops_nothing(db, monkeypatch):
    from registry.checks import check_web_settings
    from steerhub.startup import refuse_wrong_settings

    monkeypatch.setattr(descriptors, "raise_limit", lambda: 1_024)
    (warning,) = [problem for problem in check_web_settings(None) if problem.id == "steerhub.W003"]
    assert "1024" in warning.msg
    assert not warning.is_serious()
    refuse_wrong_settings()
