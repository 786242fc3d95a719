"""What the tests of a serving node share: a clock they move, one socket for many hubs, and short questions to a node."""

import json
from datetime import timedelta

from steernode.canonical import canonical_json
from steernode.dsse import TRUST_TYPE
from steernode.node.deciding import decide
from steernode.node.follower import PollOutcome
from steernode.stop.document import PAYLOAD_TYPE, StopStatement, write_stop
from tests.support.hub_simulator import NOW, Signer

# Who may stop without the hub.
NIGHT = Signer(purposes=["offline-stop"], issuer="night shift")


class Clock:
    def __init__(self):
        self.moment = NOW

    def __call__(self):
        return self.moment

    def advance(self, **duration):
        self.moment += timedelta(**duration)


class CurrentHub:
    """One socket for the whole module; behind it the hub of the test that runs."""

    app = None

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


def effective(node, tenant="harbor", route=""):
    return decide(node.in_force, tenant, route, now=node.now())


def is_steered(node, tenant="harbor", route=""):
    return effective(node, tenant, route).profile is not None


def refused(node):
    assert node.poll() is PollOutcome.REFUSED
    return node.refusal.code


def state_of(tmp_path):
    return json.loads((tmp_path / "store/state.json").read_bytes())


def bad_signature(hub):
    hub.publish(2, signer=Signer())


def trust_of(*signers, version=1):
    return {"schema": "steerhub.trust/1", "version": version, "keys": [signer.key_document() for signer in signers]}


def announce(hub, document, signer):
    """The hub has a trust document, signed by this one."""
    hub.signed_trust = signer.sign(canonical_json(document), TRUST_TYPE)


def offline_stop(*kills, sequence=1):
    return NIGHT.sign(write_stop(StopStatement("night shift", sequence, NOW, tuple(sorted(kills)))), PAYLOAD_TYPE)


def drop_stop(tmp_path, envelope, name="stop.dsse"):
    (tmp_path / "store/stop-inbox").mkdir(parents=True, exist_ok=True)
    (tmp_path / "store/stop-inbox" / name).write_bytes(envelope)
