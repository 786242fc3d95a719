"""`POST enroll`: a node with a one-time token says which key is its own, proves that it has it, and gets its token and whom to trust."""

import asyncio
from typing import Any

from registry.errors import InvalidInput
from registry.fleet.answers import Ask, Refusal
from registry.fleet.threads import DaemonThreads
from registry.services.nodes import enroll_node
from registry.snapshots import trust_document
from registry.web.bodies import parse_body
from steernode.dsse import open_self_signed
from steernode.errors import FieldError, SnapshotRefused
from steernode.hub.tokens import is_well_formed
from steernode.records.enrolment import ENROLMENT_TYPE, Enrolment

MAX_ENROLMENT_BYTES = 64 * 1024
# Whoever asks here is known by nothing yet: one at a time, so that guessing takes no connection from anybody else.
_ENROLLING = DaemonThreads(1, name="enrolment")


async def take_enrolment(ask: Ask, _: str) -> None:
    """Raises: Refusal 401; as `read_request` and `enroll_node`."""
    scheme, _space, secret = ask.header("authorization").partition(" ")
    if scheme.lower() != "bearer" or not is_well_formed(secret.strip()):
        headers = {"WWW-Authenticate": 'Bearer realm="steerhub enrolment"'}
        raise Refusal(401, "NOT_AUTHENTICATED", "the one-time enrolment token is missing, or not one", headers=headers)
    enrolment = read_request(await ask.read_body(MAX_ENROLMENT_BYTES))
    answer = await asyncio.get_running_loop().run_in_executor(_ENROLLING, _enroll, secret.strip(), enrolment)
    await ask.answer_json(answer, {"Cache-Control": "no-store"})


def read_request(envelope: bytes) -> Enrolment:
    """What the node asks for, once the envelope proves that it has the private half of its key. Raises: InvalidInput ENROLMENT_SHAPE."""
    try:
        payload = open_self_signed(envelope, find_key=lambda payload: _read(payload).public_key, payload_type=ENROLMENT_TYPE)
        return _read(payload)
    except (FieldError, SnapshotRefused) as error:
        raise InvalidInput("ENROLMENT_SHAPE", f"not an enrolment signed with its own key: {error.message}") from error


def _read(payload: bytes) -> Enrolment:
    return Enrolment.from_document(parse_body(payload, max_bytes=MAX_ENROLMENT_BYTES, max_depth=4))


def _enroll(secret: str, enrolment: Enrolment) -> dict[str, Any]:
    node, token = enroll_node(secret, name=enrolment.name, public_key=enrolment.public_key)
    return {"id": str(node.pk), "name": node.name, "environment": node.environment.name, "token": token, "trust": trust_document()}
