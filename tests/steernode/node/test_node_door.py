"""A node that listens beyond its own machine answers its gateway alone, because the headers that say who is asking are believed."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from steernode.errors import NodeError
from steernode.node.door import Door, check_host
from tests.support.serving import served

KEY = "k" * 32


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_the_loopback_interface_a_node_needs_no_key(host):
    check_host(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "node-1.internal", "localhost.example", ""])  # noqa: S104
def test_anywhere_else_it_needs_one(host):
    with pytest.raises(NodeError) as refused:
        check_host(host, None)
    assert refused.value.code == "HOST_UNPROTECTED"
    check_host(host, KEY)


@pytest.mark.parametrize("key", ["", "short", "k" * 31])
def test_a_key_that_can_be_guessed_is_refused_on_every_interface(key):
    with pytest.raises(NodeError) as refused:
        check_host("127.0.0.1", key)
    assert refused.value.code == "KEY_SHORT"


@pytest.fixture(scope="module")
def guarded():
    paths = ["/v1/chat/completions", "/status", "/healthz", "/readyz"]
    app = Starlette(routes=[Route(path, lambda _request: JSONResponse({"in": True}), methods=["GET", "POST"]) for path in paths])
    with served(Door(app, KEY)) as url, httpx.Client(base_url=url) as client:
        yield client


BEARER = ("Authorization", f"Bearer {KEY}")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/status", "/nowhere"])
@pytest.mark.parametrize("headers", [[], [("Authorization", KEY)], [("Authorization", f"Bearer {KEY}x")], [BEARER, BEARER]])
def test_whoever_has_no_key_is_told_nothing(guarded, path, headers):
    answer = guarded.post(path, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "KEY")


def test_the_gateway_is_answered_and_a_load_balancer_asks_for_health_without_the_key(guarded):
    assert guarded.post("/v1/chat/completions", headers=[BEARER]).json() == {"in": True}
    assert [guarded.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--host", "0.0.0.0"], "HOST_UNPROTECTED"), (["--device", "gpu"], "DEVICE_FORMAT")],  # noqa: S104
)
def test_a_node_that_cannot_be_served_as_asked_does_not_enrol(steer, tmp_path, arguments, code):
    ran = steer("node", "serve", "--model", str(tmp_path), "--store", str(tmp_path / "store"), *arguments)
    assert ran.exit_code != 0
    assert code in ran.output
    assert not (tmp_path / "store").exists()
