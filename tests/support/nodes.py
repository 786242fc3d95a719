"""Nodes as the hub knows them: enrolled with a key that tests share, and what they report, signed with it."""

import itertools
import json
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from steernode.dsse import sign_envelope
from steernode.records.reports import REPORT_TYPE, Report
from steernode.strict import format_time

KEY = Ed25519PrivateKey.generate()
BOOT = "b" * 32
_sequence = itertools.count(1)


def enroll(name, *, environment, actor, key=KEY):
    """(the node, its token), as if an operator had invited it and it had enrolled."""
    from registry.services.nodes import enroll_node, invite_node

    _, secret = invite_node(name, environment=environment, actor=actor)
    return enroll_node(secret, name=name, public_key=key.public_key())


def applied(revision=1, *, environment="production", content_digest=None):
    """What a report says of the snapshot in force: by default the very one that was published."""
    from registry.models import Snapshot

    if content_digest is None:
        content_digest = Snapshot.objects.get(environment__name=environment, revision=revision).content_digest
    return {
        "revision": revision,
        "content_digest": content_digest,
        "etag": f'"r{revision}"',
        "accepted_at": "2026-11-22T10:00:00Z",
        "last_contact_at": "2026-11-22T10:00:00Z",
        "last_contact_seconds": 0,
        "expires_in_seconds": 3600,
    }


def report(**changes):
    """A whole report of node-1: an ACK of revision 1 of production, with a number of its own."""
    full = {
        "result": "ACK",
        "code": "",
        "message": "",
        "revision": 1,
        "seq": next(_sequence),
        "node": "node-1",
        "environment": "production",
        "boot_id": BOOT,
        "engine": "transformers 5",
        "capabilities": ["operator:add"],
        "fingerprint": "ab" * 32,
        "highest_revision": 1,
        "stop": None,
        "unservable": [],
        "slots": [{"tenant": "harbor", "route": "", "reason": "no_flag", "steering": None}],
        "counters": {"requests": 3},
        "node_utc": format_time(datetime.now(UTC)),
    } | changes
    if "applied" not in full:
        full["applied"] = applied(full["revision"] if full["result"] == "ACK" else 1)
    return full


def signed(document, key=KEY, payload_type=REPORT_TYPE):
    """The envelope that a node sends; of bytes that are no report, too."""
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return sign_envelope(payload, payload_type, key)


def say(node, **changes):
    """Record a report of this node, past the socket."""
    from registry.services.reports import record_node_report

    return record_node_report(node, report=Report.from_document(report(node=node.name, **changes)))
