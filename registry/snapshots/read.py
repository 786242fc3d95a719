"""Read a stored snapshot back, as the typed document that nodes resolve requests against."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from registry.errors import NotFound
from registry.models import Environment, Snapshot
from registry.reads.steering import engaged_kills, head_snapshot
from steernode.dsse import write_envelope
from steernode.snapshot.document import PAYLOAD_TYPE, parse_document, parse_snapshot
from steernode.snapshot.records import Kill
from steernode.snapshot.records import Snapshot as SnapshotDocument
from steernode.snapshot.resolve import resolve_arms
from steernode.stop.document import PAYLOAD_TYPE as STOP_PAYLOAD_TYPE

# A document of thousands of flags takes a fifth of a second to read and some megabytes to hold; the last heads are asked for most.
_KEPT_DOCUMENTS = 8


def read_snapshot(snapshot: Snapshot) -> SnapshotDocument:
    """What the snapshot says. Its signature is ours and is not checked again here."""
    # Rows are never changed, and the tag holds a digest of what one says: another database's row of the same number has another.
    return _read(snapshot.pk, snapshot.etag)


@lru_cache(_KEPT_DOCUMENTS)
def _read(key: int, etag: str) -> SnapshotDocument:
    return parse_snapshot(parse_document(Snapshot.objects.get(pk=key).payload))


@lru_cache(_KEPT_DOCUMENTS)
def _read_under(key: int, etag: str, kills: tuple[Kill, ...]) -> SnapshotDocument:
    return _read(key, etag).under(kills)


def _read_in_force(environment: Environment, head: Snapshot) -> SnapshotDocument:
    """What nodes make of the snapshot: the kills in force reach them by another road."""
    return _read_under(head.pk, head.etag, _list_kills(environment))


def _list_kills(environment: Environment) -> tuple[Kill, ...]:
    return tuple(sorted({Kill(kind, target) for kind, target in engaged_kills(environment).values_list("kind", "target")}))


def count_steering(environment: Environment) -> int:
    """How many flags of the environment steer somebody now: what is killed does not."""
    head = head_snapshot(environment)
    return _count_steering(head.pk, head.etag, _list_kills(environment)) if head is not None else 0


@lru_cache(_KEPT_DOCUMENTS)
def _count_steering(key: int, etag: str, kills: tuple[Kill, ...]) -> int:
    snapshot = _read_under(key, etag, kills)
    return sum(any(answer.profile for answer in resolve_arms(snapshot, flag)) for flag in snapshot.flags)


def read_envelope(payload_zlib: bytes, signatures: Sequence[Mapping[str, str]]) -> bytes:
    """The signed envelope that nodes are served, from the two columns of it."""
    return write_envelope(zlib.decompress(payload_zlib), PAYLOAD_TYPE, signatures)


def read_stop_envelope(payload_zlib: bytes, signatures: Sequence[Mapping[str, str]]) -> bytes:
    """As `read_envelope`, of a stop statement."""
    return write_envelope(zlib.decompress(payload_zlib), STOP_PAYLOAD_TYPE, signatures)


def read_heads(environments: Iterable[Environment]) -> dict[str, SnapshotDocument]:
    """The newest snapshot of each environment under the kills in force there, by its name. One without a snapshot is left out."""
    heads = [(environment, head_snapshot(environment)) for environment in environments]
    return {environment.name: _read_in_force(environment, head) for environment, head in heads if head is not None}


def read_head(environment: Environment) -> tuple[Snapshot, SnapshotDocument]:
    """The newest snapshot: its row without the payload, and what it says under the kills in force. Raises: NotFound SNAPSHOT_NOT_FOUND."""
    head = head_snapshot(environment)
    if head is None:
        raise NotFound("SNAPSHOT_NOT_FOUND", f"{environment} has no snapshot yet", environment.name)
    return head, _read_in_force(environment, head)
