"""Which snapshots a node believes. Everything is decided here from bytes and a time; nothing here reads a file or a socket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

from steernode.dsse import TrustedKeys, open_envelope
from steernode.errors import FieldError, SnapshotRefused
from steernode.snapshot.document import PAYLOAD_TYPE, parse_document, parse_snapshot
from steernode.snapshot.limits import check_limits
from steernode.snapshot.readers import read_kill
from steernode.snapshot.records import Kill, Snapshot
from steernode.strict import read_time, refused_as


class TrustedSnapshots:
    """The rules by which one node accepts the next snapshot of its environment.

    `fingerprint` is of the files the node really loaded, `capabilities` what its engine can do, `alpha_cap` the node's own
    limit per unit. `highest` is the (revision, content digest) of the newest snapshot ever accepted, and only ever rises.
    """

    def __init__(
        self,
        *,
        environment: str,
        keys: TrustedKeys,
        fingerprint: str,
        highest: tuple[int, str] | None,
        capabilities: Iterable[str],
        alpha_cap: Mapping[str, Decimal] | None = None,
    ) -> None:
        self._environment = environment
        self._keys = keys
        self._fingerprint = fingerprint
        self._highest = highest
        self._capabilities = frozenset(capabilities)
        self._alpha_cap = alpha_cap

    @property
    def highest(self) -> tuple[int, str] | None:
        return self._highest

    def consider(self, envelope: bytes, now: datetime) -> Snapshot:
        """The snapshot in this envelope, if it may be applied at this time. Changes nothing: see `accept`.

        Raises: SnapshotRefused, in this order: LIMIT, ENVELOPE, SIGNATURE, SCHEMA (no identity), ENVIRONMENT, ROLLBACK or
        EQUIVOCATION, EXPIRED, SCHEMA or LIMIT, CAPABILITY, BASE_MODEL_MISMATCH, ALPHA_CAP, COMPOSITION_BUDGET. What passed EXPIRED is the
        hub's word, even if it cannot be followed in full: a refusal after that has its `kills`.
        """
        document = parse_document(open_envelope(envelope, keys=self._keys, payload_type=PAYLOAD_TYPE, now=now))
        try:
            return self._consider_document(document, now)
        except SnapshotRefused as refusal:
            refusal.revision = document["revision"]
            raise

    @refused_as(SnapshotRefused, "SCHEMA")
    def _consider_document(self, document: dict[str, Any], now: datetime) -> Snapshot:
        self._check_identity(document)
        if read_time(document.get("expires_at"), "expires_at") <= now:
            raise SnapshotRefused("EXPIRED", f"revision {document['revision']} expired at {document['expires_at']}", document["expires_at"])
        try:
            snapshot = parse_snapshot(document)
            self._check_fit(snapshot)
        except SnapshotRefused as refusal:
            refusal.kills = _read_kills(document)
            raise
        return snapshot

    def _check_fit(self, snapshot: Snapshot) -> None:
        unknown = sorted(set(snapshot.capabilities) - self._capabilities)
        if unknown:
            raise SnapshotRefused("CAPABILITY", f"this node's engine cannot do {unknown[0]!r}; upgrade it or move the tenant", unknown[0])
        if self._fingerprint not in {model.fingerprint for model in snapshot.base_models}:
            raise SnapshotRefused(
                "BASE_MODEL_MISMATCH",
                f"the snapshot lists no base model with this node's fingerprint {self._fingerprint}",
                self._fingerprint,
            )
        check_limits(snapshot, self._alpha_cap)

    def accept(self, snapshot: Snapshot) -> None:
        """Remembers a snapshot that was applied, so that nothing older is believed again."""
        if self._highest is None or snapshot.revision >= self._highest[0]:
            self._highest = (snapshot.revision, snapshot.content_digest)

    def _check_identity(self, document: dict[str, Any]) -> None:
        if document["environment"] != self._environment:
            raise SnapshotRefused(
                "ENVIRONMENT",
                f"the snapshot is for {document['environment']!r}, this node serves {self._environment!r}",
                document["environment"],
            )
        if self._highest is None:
            return
        revision, digest = self._highest
        if document["revision"] < revision:
            raise SnapshotRefused(
                "ROLLBACK", f"revision {document['revision']} is older than {revision}, which was accepted before", str(revision)
            )
        if document["revision"] == revision and document["content_digest"] != digest:
            raise SnapshotRefused("EQUIVOCATION", f"revision {revision} was accepted before with other content; find out who signed twice")


def _read_kills(document: Mapping[str, Any]) -> tuple[Kill, ...]:
    """What can be read of them, in a document of which something else may be wrong."""
    kills = []
    for entry in document["kills"] if isinstance(document.get("kills"), list) else ():
        with suppress(FieldError):
            kills.append(read_kill(entry, "kills[]"))
    return tuple(kills)
