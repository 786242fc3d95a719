"""The form of an audit event: what its body says, and the digest that links it to the event before it.

A body is canonical JSON, and its exact bytes are what is hashed and kept. The hub writes them with these functions, and whoever
verifies an export holds them against the same names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict
from uuid import UUID

from steernode.canonical import canonical_json

EVENT_SCHEMA = "steerhub.audit/2"
# Of events from before: each said that the weights are unchanged, whether or not anybody had looked.
FIRST_SCHEMA = "steerhub.audit/1"
# What an event says of itself, so that a reader who sees only one knows what steering is: it configures inference.
INFERENCE_CONFIGURATION = "inference configuration"
# Only of an event that says who compared the weights with what was registered, and which files these are.
WEIGHTS_UNCHANGED = "inference configuration, weights unchanged"
# The details that say it: a node's name, and the names of the files that the event's fingerprint covers.
CHECKED_BY, CHECKED_FILES = "weights_checked_by", "weights_checked_files"
# What the first event follows.
ZERO_DIGEST = "0" * 64


class EventActor(TypedDict):
    type: str
    name: str


class EventObject(TypedDict):
    type: str
    id: str
    name: str
    version: int


class EventBody(TypedDict):
    _: str
    id: str
    seq: int
    ts: str
    action: str
    actor: EventActor
    object: EventObject
    tenant: str | None
    environment: str | None
    details: dict[str, Any]
    inference_configuration: str
    base_model_fingerprint: str | None


BODY_FIELDS = tuple(EventBody.__annotations__)
ACTOR_FIELDS = tuple(EventActor.__annotations__)
OBJECT_FIELDS = tuple(EventObject.__annotations__)


@dataclass(frozen=True, slots=True)
class Entry:
    """What an event says, before it has a place and a time in the log.

    `details` hold text, integers, booleans and lists of them; no floats.
    """

    event_id: UUID
    action: str
    actor_type: str
    actor_name: str
    object_type: str
    object_id: str
    object_name: str
    tenant: str
    environment: str
    base_model_fingerprint: str
    details: dict[str, Any]


def write_body(entry: Entry, *, seq: int, version: int, at: datetime) -> bytes:
    """The bytes of an event: number `seq` of the log, `at` this time, and change `version` of its object.

    Raises: CanonicalError for a float.
    """
    body: EventBody = {
        "_": EVENT_SCHEMA,
        "id": str(entry.event_id),
        "seq": seq,
        "ts": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "action": str(entry.action),
        "actor": {"type": entry.actor_type, "name": entry.actor_name},
        "object": {"type": entry.object_type, "id": entry.object_id, "name": entry.object_name, "version": version},
        "tenant": entry.tenant or None,
        "environment": entry.environment or None,
        "details": entry.details,
        "inference_configuration": configuration_statement(EVENT_SCHEMA, entry.details, entry.base_model_fingerprint),
        "base_model_fingerprint": entry.base_model_fingerprint or None,
    }
    return canonical_json(body)


def configuration_statement(schema: str, details: Mapping[str, Any], fingerprint: str | None) -> str:
    """What an event of this schema says in `inference_configuration`."""
    is_checked = bool(fingerprint and details.get(CHECKED_BY) and details.get(CHECKED_FILES))
    return WEIGHTS_UNCHANGED if is_checked or schema == FIRST_SCHEMA else INFERENCE_CONFIGURATION


def event_digest(prev: str, body: bytes) -> str:
    """The digest of an event, from the digest before it (64 hexadecimal digits, zeros for the first) and the event's own bytes."""
    return hashlib.sha256(bytes.fromhex(prev) + body).hexdigest()
