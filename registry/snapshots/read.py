"""Read a stored snapshot back, as the typed document that nodes resolve requests against."""

import base64
import json
from functools import lru_cache

from registry.errors import NotFound
from registry.models import Environment, Snapshot
from steerkit.snapshot import Snapshot as SnapshotDocument
from steerkit.snapshot import parse_document, parse_snapshot

# A document of thousands of flags takes a fifth of a second to read and some megabytes to hold; the last heads are asked for most.
_KEPT_DOCUMENTS = 8


def read_snapshot(snapshot: Snapshot) -> SnapshotDocument:
    """The payload of the stored envelope. Its signature is ours and is not checked again here."""
    # Rows are never changed, and the tag holds a digest of what one says: another database's row of the same number has another.
    return _read(snapshot.pk, snapshot.etag)


@lru_cache(_KEPT_DOCUMENTS)
def _read(key: int, etag: str) -> SnapshotDocument:
    envelope = json.loads(bytes(Snapshot.objects.values_list("envelope", flat=True).get(pk=key)))
    return parse_snapshot(parse_document(base64.b64decode(envelope["payload"])))


def read_head(environment: Environment) -> tuple[Snapshot, SnapshotDocument]:
    """What nodes are told now: the row without its envelope, and what it says. Raises: NotFound SNAPSHOT_NOT_FOUND."""
    head = environment.snapshots.defer("envelope").order_by("-revision").first()
    if head is None:
        raise NotFound("SNAPSHOT_NOT_FOUND", f"{environment} has no snapshot yet", environment.name)
    return head, read_snapshot(head)
