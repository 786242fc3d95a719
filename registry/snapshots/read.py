"""Read a stored snapshot back, as the typed document that nodes resolve requests against."""

import base64
import json

from registry.models import Snapshot
from steerkit.snapshot import Snapshot as SnapshotDocument
from steerkit.snapshot import parse_document, parse_snapshot


def read_snapshot(snapshot: Snapshot) -> SnapshotDocument:
    """The payload of the stored envelope. Its signature is ours and is not checked again here."""
    envelope = json.loads(bytes(snapshot.envelope))
    return parse_snapshot(parse_document(base64.b64decode(envelope["payload"])))
