"""A node against a real hub on a real socket."""

import pytest

from steernode.hub.client import FleetClient
from steernode.node.follower import Follower
from tests.support.hub_simulator import NODE_KEY, NODE_TOKEN, FakeEngine, HubSimulator, trust
from tests.support.node_rig import NIGHT, Clock, CurrentHub, is_steered
from tests.support.serving import served
from tests.support.steer_rig import recording_hub, recording_server, steer

__all__ = ["recording_hub", "recording_server", "steer"]


@pytest.fixture(scope="module")
def current_hub():
    return CurrentHub()


@pytest.fixture(scope="module")
def hub_url(current_hub):
    current_hub.app = HubSimulator().app
    with served(current_hub) as url:
        yield url


@pytest.fixture
def hub(current_hub):
    simulator = HubSimulator()
    current_hub.app = simulator.app
    return simulator


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make_node(hub_url, hub, clock, tmp_path):
    clients = []

    def make(**changes):
        clients.append(FleetClient(changes.pop("hub_url", hub_url), "production", "node-1", NODE_TOKEN, NODE_KEY))
        settings = {
            "environment": "production",
            "name": "node-1",
            "store": tmp_path / "store",
            "client": clients[-1],
            "keys": hub.keys,
            "engine": FakeEngine(),
            "clock": clock,
        }
        node = Follower(**(settings | changes))
        node.start()
        return node

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def steering_node(hub, make_node):
    """It steers harbor, trusts the night shift, and has heard that nothing is stopped."""
    hub.publish(2)
    hub.publish_stop()
    node = make_node(keys=trust(hub.signer, hub.stop_signer, NIGHT))
    node.poll()
    assert is_steered(node)
    return node
