"""A node that is not ready says why: of what is not taken the code to everybody, and the message to who may read its status."""

import httpx
import pytest

from steernode.node.responder import Responder
from steernode.node.serve import build_app
from tests.support.hub_simulator import FakeEngine, make_content
from tests.support.node_rig import refused
from tests.support.serving import served


def another_model(engine, hub):
    engine.fingerprint = "22" * 32


def another_architecture(engine, hub):
    engine.architecture_digest = "aa" * 32
    [entry] = make_content()["base_models"]
    hub.publish(6, content=make_content(base_models=[entry | {"architecture_digest": "bb" * 32}]))


@pytest.mark.parametrize("is_guarded", [False, True])
@pytest.mark.parametrize(("make_other", "code"), [(another_model, "BASE_MODEL_MISMATCH"), (another_architecture, "ARCHITECTURE_MISMATCH")])
def test_a_node_that_refuses_every_snapshot_says_why_it_is_not_ready(hub, make_node, make_other, code, is_guarded):
    engine = FakeEngine()
    hub.publish()
    make_other(engine, hub)
    node = make_node(engine=engine)
    assert refused(node) == code
    with served(build_app(Responder(node, engine), "harbor-model", is_guarded=is_guarded)) as url:
        ready = httpx.get(f"{url}/readyz")
        why = httpx.get(f"{url}/status").json()["refusal"]
    assert (ready.status_code, ready.json()["problem"]) == (503, "no_snapshot")
    said = {"code": code} if is_guarded else {"code": code, "message": why["message"]}
    assert ready.json()["refusal"] == said
    assert why["message"]
