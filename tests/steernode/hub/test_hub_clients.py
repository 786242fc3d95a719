import gzip
import logging
import math
import time

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from steernode.canonical import sha256_hex
from steernode.errors import HubError
from steernode.hub.client import Fetched, FleetClient, HubClient, NotModified, read_record_age
from tests.support.hub_simulator import NODE_KEY, NODE_TOKEN, VECTOR, HubSimulator, make_kill
from tests.support.serving import served

TOKEN = "sht_" + "p" * 43


async def echo(request):
    body = (await request.body()).decode()
    return JSONResponse({"method": request.method, "body": body, "authorization": request.headers["authorization"]})


async def problem(request):
    return JSONResponse(
        {"type": "about:blank", "title": "No", "status": 409, "code": "REVISION_STATE", "detail": "revision 3 is a draft"}, status_code=409
    )


async def big(request):
    return Response(gzip.compress(b" " * 20_000_000), headers={"Content-Encoding": "gzip"})


async def cut(request):
    return Response(b"{", headers={"Content-Length": "100"})


ANSWERS = {
    "echo": echo,
    "problem": problem,
    "big": big,
    "redirect": lambda request: RedirectResponse("http://127.0.0.1:9/elsewhere"),
    "html": lambda request: Response("<html>", media_type="text/html"),
    "error": lambda request: Response("<html>", status_code=502, headers={"Retry-After": "7"}),
    "nothing": lambda request: Response(status_code=204),
    "blobs": lambda request: JSONResponse({"no": "digest"}),
    "export": lambda request: Response(b"line\n" * 100_000),
}


@pytest.fixture(scope="module")
def simulator():
    hub = HubSimulator()
    hub.publish(1)
    return hub


ASKED = []


async def stumble(request):
    """The hub's answer is lost twice, and then found: what a proxy or a restart does to a request."""
    ASKED.append((request.headers["Idempotency-Key"], await request.body()))
    if len(ASKED) == 1:
        return JSONResponse({"code": "UNAVAILABLE", "detail": "the database does not answer"}, status_code=503)
    if len(ASKED) == 2:
        return JSONResponse({"code": "IDEMPOTENCY_IN_PROGRESS", "detail": "still running"}, status_code=409)
    return JSONResponse({"done": 1})


@pytest.fixture(scope="module")
def url(simulator):
    routes = [Route(f"/api/v1/{name}", answer, methods=["GET", "POST", "PUT"]) for name, answer in ANSWERS.items()]
    routes.append(Route("/api/v1/stumble", stumble, methods=["POST", "DELETE"]))
    with served(Starlette(routes=routes + simulator.app.routes)) as hub_url:
        yield hub_url


@pytest.fixture
def hub(url):
    client = HubClient(url, TOKEN)
    yield client
    client.close()


@pytest.fixture
def fleet(url):
    client = FleetClient(url, "production", "node-1", NODE_TOKEN, NODE_KEY)
    yield client
    client.close()


def code_of(function, *arguments):
    with pytest.raises(HubError) as caught:
        function(*arguments)
    return caught.value.code


def test_a_request_carries_the_token_and_the_body(hub):
    assert hub.get("/echo") == {"method": "GET", "body": "", "authorization": f"Bearer {TOKEN}"}
    assert hub.post("/echo", {"a": 1})["body"] == '{"a":1}'
    assert hub.put("/echo", {})["method"] == "PUT"
    assert hub.post("/nothing") is None


def test_a_change_is_sent_again_under_its_key_until_it_is_answered(hub, monkeypatch):
    monkeypatch.setattr("steernode.hub.client.RETRY_PAUSES_SECONDS", (0, 0))
    ASKED.clear()
    assert hub.post("/stumble", {"a": 1}) == {"done": 1}
    assert len(ASKED) == 3
    assert len(set(ASKED)) == 1
    hub.post("/stumble", {"a": 1})
    assert ASKED[3][0] != ASKED[0][0]


def test_a_change_is_given_up_in_the_end_and_a_refusal_at_once(hub, monkeypatch):
    monkeypatch.setattr("steernode.hub.client.RETRY_PAUSES_SECONDS", (0,))
    ASKED.clear()
    assert code_of(hub.delete, "/stumble") == "IDEMPOTENCY_IN_PROGRESS"
    assert len(ASKED) == 2
    assert code_of(hub.post, "/problem") == "REVISION_STATE"


def test_a_problem_document_becomes_its_code_and_sentence(hub):
    with pytest.raises(HubError, match="revision 3 is a draft") as caught:
        hub.get("/problem")
    assert (caught.value.code, caught.value.status) == ("REVISION_STATE", 409)


def test_an_error_without_a_problem_document_says_its_status(hub):
    with pytest.raises(HubError, match="502") as caught:
        hub.get("/error")
    assert (caught.value.code, caught.value.retry_after_seconds) == ("HUB_STATUS", 7.0)


def test_a_redirect_is_not_followed(hub):
    assert code_of(hub.get, "/redirect") == "HUB_REDIRECT"


def test_an_answer_that_unpacks_past_the_limit_is_refused(hub):
    assert code_of(hub.get, "/big") == "HUB_TOO_LARGE"


def test_an_answer_that_is_not_json_is_refused(hub):
    assert code_of(hub.get, "/html") == "HUB_ANSWER"
    assert code_of(hub.upload_blob, b"x") == "HUB_ANSWER"


def test_a_hub_that_is_not_there_is_named(tmp_path):
    client = HubClient("http://127.0.0.1:9", TOKEN)
    with pytest.raises(HubError, match=r"127\.0\.0\.1:9") as caught:
        client.get("/whoami")
    assert (caught.value.code, caught.value.status) == ("HUB_UNREACHABLE", None)
    assert code_of(client.download, "/export", tmp_path / "out") == "HUB_UNREACHABLE"
    client.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hub.example",
        "ftp://hub.example",
        "http://",
        "http://user:secret@hub.example",
        "http://hub.example?x=1",
        "http://[",
        "file:///etc",
    ],
)
def test_a_url_that_is_no_hub_is_refused(url):
    assert code_of(HubClient, url, TOKEN) == "HUB_URL"


@pytest.mark.parametrize("token", ["", "short", "with space in it", "line\nbreak-in-token", "sht_ümlaut-in-token"])
def test_a_token_that_cannot_be_one_is_refused_and_not_shown(token):
    with pytest.raises(HubError) as caught:
        HubClient("http://127.0.0.1:9", token)
    assert caught.value.code == "HUB_TOKEN"
    assert not token or token not in caught.value.message


def test_no_token_is_ever_logged_or_shown(hub, caplog):
    caplog.set_level(logging.DEBUG)
    hub.get("/echo")
    code_of(hub.get, "/problem")
    code_of(hub.get, "/html")
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(hub) + repr(hub._connection) + repr(hub._connection._client)


def test_a_download_appears_only_when_it_is_whole(hub, tmp_path):
    target = tmp_path / "export"
    assert hub.download("/export", target) == 500_000
    assert target.read_bytes() == b"line\n" * 100_000
    other = tmp_path / "other"
    assert code_of(hub.download, "/problem", other) == "REVISION_STATE"
    assert code_of(hub.download, "/redirect", other) == "HUB_REDIRECT"
    assert code_of(hub.download, "/export", target / "below") == "FILE_UNWRITABLE"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_node_gets_the_envelope_its_etag_and_then_not_modified(fleet, simulator):
    fetched = fleet.snapshot(None)
    assert fetched == Fetched(simulator.envelope, simulator.etag)
    assert fleet.snapshot(fetched.etag) == NotModified()
    assert fleet.snapshot(fetched.etag, 1) == NotModified()
    assert simulator.requests[-1]["prefer"] == "wait=1"


def test_a_node_gets_blobs_by_digest_and_the_trust_document(fleet, simulator):
    assert fleet.blob(sha256_hex(VECTOR)) == VECTOR
    assert code_of(fleet.blob, "00" * 32) == "NOT_FOUND"
    assert fleet.trust()["keys"][0]["keyid"] == simulator.signer.keyid


def test_a_node_reports(fleet, simulator):
    fleet.report({"result": "ACK"})
    assert simulator.reports[-1] == {"result": "ACK"}


def test_a_node_with_a_wrong_token_is_told_so(url):
    client = FleetClient(url, "production", "node-1", "shn_" + "x" * 43, NODE_KEY)
    with pytest.raises(HubError) as caught:
        client.snapshot(None)
    assert (caught.value.code, caught.value.status) == ("NOT_AUTHENTICATED", 401)
    client.close()


def test_every_answer_names_the_newest_stop_even_a_refusal(url, simulator):
    simulator.stop_envelope = None
    fleet = FleetClient(url, "production", "node-1", NODE_TOKEN, NODE_KEY)
    fleet.snapshot(None)
    assert fleet.stop_digest == ""
    simulator.publish_stop(make_kill())
    assert fleet.snapshot(simulator.etag) == NotModified()
    assert fleet.stop_digest == simulator.stop_digest
    simulator.publish_stop(make_kill("atlas"))
    assert code_of(fleet.blob, "00" * 32) == "NOT_FOUND"
    assert fleet.stop_digest == simulator.stop_digest
    fleet.close()


def test_a_node_gets_the_stop_then_not_modified_and_can_hand_one_back(fleet, simulator):
    envelope = simulator.publish_stop(make_kill())
    fetched = fleet.stop()
    assert fetched == Fetched(envelope, f'"{simulator.stop_digest}"')
    assert fleet.stop(simulator.stop_digest, 1) == NotModified()
    fleet.hand_back_stop(envelope)
    assert simulator.handed_back[-1] == envelope


def test_a_poll_that_states_another_stop_is_answered_at_once(fleet, simulator):
    simulator.publish_stop(make_kill())
    began = time.monotonic()
    fleet.snapshot(simulator.etag, 5, stop_digest="0" * 64)
    assert time.monotonic() - began < 4
    assert simulator.requests[-1]["stop"] == "0" * 64


@pytest.mark.parametrize(
    ("headers", "age"),
    [
        ({"Record-Age": "1.25"}, 1.25),
        ({"Record-Age": "1", "Age": "30"}, 31.0),
        ({}, math.inf),
        *(({"Record-Age": odd}, math.inf) for odd in ("", "-1", "nan", "inf", "1e3", "1.2.3", "\u0661")),
    ],
)
def test_the_age_of_the_record_is_what_the_hub_says_and_endless_where_that_is_nonsense(headers, age):
    assert read_record_age(headers) == age


def test_only_the_hubs_own_refusal_is_taken_for_one(fleet, simulator):
    for own, foreign, is_own in ((401, None, True), (None, 403, False)):
        simulator.fail_with, simulator.proxy_with = own, foreign
        with pytest.raises(HubError) as caught:
            fleet.snapshot(None)
        assert caught.value.is_the_hubs_own is is_own
    simulator.fail_with = simulator.proxy_with = None
