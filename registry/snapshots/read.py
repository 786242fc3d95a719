"""Read a stored snapshot back, as the typed document that nodes resolve requests against."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from registry.errors import NotFound
from registry.models import Environment, Snapshot
from registry.reads.steering import head_snapshot
from steernode.dsse import write_envelope
from steernode.snapshot.document import PAYLOAD_TYPE, parse_document, parse_snapshot
from steernode.snapshot.records import Snapshot as SnapshotDocument
from steernode.snapshot.resolve import resolve_arms

# A document of thousands of flags takes a fifth of a second to read and some megabytes to hold; the last heads are asked for most.
_KEPT_DOCUMENTS = 8


def read_snapshot(snapshot: Snapshot) -> SnapshotDocument:
    """What the snapshot says. Its signature is ours and is not checked again here."""
    # Rows are never changed, and the tag holds a digest of what one says: another database's row of the same number has another.
    return _read(snapshot.pk, snapshot.etag)


@lru_cache(_KEPT_DOCUMENTS)
def _read(key: int, etag: str) -> SnapshotDocument:
    return parse_snapshot(parse_document(Snapshot.objects.get(pk=key).payload))


def count_steering(environment: Environment) -> int:
    """How many flags of the environment steer somebody now: what is killed does not."""
    head = head_snapshot(environment)
    return _count_steering(head.pk, head.etag) if head is not None else 0


@lru_cache(_KEPT_DOCUMENTS)
def _count_steering(key: int, etag: str) -> int:
    snapshot = _read(key, etag)
    return sum(any(answer.profile for answer in resolve_arms(snapshot, flag)) for flag in snapshot.flags)


def read_envelope(payload_zlib: bytes, signatures: Sequence[Mapping[str, str]]) -> bytes:
    """The signed envelope that nodes are served, from the two columns of it."""
    return write_envelope(zlib.decompress(payload_zlib), PAYLOAD_TYPE, signatures)


def read_heads(environments: Iterable[Environment]) -> dict[str, SnapshotDocument]:
    """The newest snapshot of each environment, by its name. One without a snapshot is left out."""
    heads = {environment.name: head_snapshot(environment) for environment in environments}
    return {name: read_snapshot(head) for name, head in heads.items() if head is not None}


def read_head(environment: Environment) -> tuple[Snapshot, SnapshotDocument]:
    """The newest snapshot: its row without the payload, and what it says. Raises: NotFound SNAPSHOT_NOT_FOUND."""
    head = head_snapshot(environment)
    if head is None:
        raise NotFound("SNAPSHOT_NOT_FOUND", f"{environment} has no snapshot yet", environment.name)
    return head, read_snapshot(head)
