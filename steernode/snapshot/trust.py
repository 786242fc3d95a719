"""Which snapshots a node believes. Everything is decided here from bytes and a time; nothing here reads a file or a socket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from datetime import datetime
from decimal import Decimal
from typing import Any

from steernode.dsse import TrustedKeys, open_envelope
from steernode.errors import AlphaError, SnapshotRefused
from steernode.snapshot.document import PAYLOAD_TYPE, parse_document, parse_snapshot
from steernode.snapshot.limits import check_limits, find_profile_problem
from steernode.snapshot.lowering import Word
from steernode.snapshot.records import Profile, Snapshot, required_capabilities
from steernode.strict import read_time, refused_as
from steernode.words import UNITS

# The refusals of a node whose model is not what the environment serves: it steers nobody, whatever it accepted before.
LEFT_BEHIND = frozenset({"BASE_MODEL_MISMATCH", "ARCHITECTURE_MISMATCH", "MODEL_BEHAVES_OTHERWISE"})


class TrustedSnapshots:
    """The rules by which one node accepts the next snapshot of its environment.

    `fingerprint` is of the files the node really loaded, `architecture_digest` of what it reads and steers them by (empty if its engine
    goes by no architecture file), `capabilities` what its engine can do, `alpha_cap` the node's own limit of the
    units that it names. `highest` is the (revision, content digest) of the newest snapshot ever accepted, and only ever rises. What is
    older than the newest word that was heard (`hear`) is not believed either.
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
        architecture_digest: str = "",
    ) -> None:
        """Raises: AlphaError ALPHA_UNIT."""
        self._environment = environment
        self._keys = keys
        self._fingerprint = fingerprint
        self._architecture_digest = architecture_digest
        self._highest = self._newest = highest
        self._capabilities = frozenset(capabilities)
        self._alpha_cap = alpha_cap
        for unit in alpha_cap or ():
            if unit not in UNITS:
                raise AlphaError("ALPHA_UNIT", f"a cap is of one of the units {', '.join(UNITS)}, not of {unit!r}", unit)

    @property
    def highest(self) -> tuple[int, str] | None:
        return self._highest

    @property
    def newest(self) -> tuple[int, str] | None:
        """Of the newest snapshot ever accepted or heard of: nothing older is believed."""
        return self._newest

    def consider(self, envelope: bytes, now: datetime) -> Snapshot:
        """The snapshot in this envelope, if it may be applied at this time. Changes nothing: see `accept`.

        Raises: SnapshotRefused, in this order: LIMIT, ENVELOPE, SIGNATURE, SCHEMA (no identity), ENVIRONMENT, ROLLBACK or
        EQUIVOCATION, EXPIRED, SCHEMA or LIMIT, CAPABILITY, BASE_MODEL_MISMATCH, ARCHITECTURE_MISMATCH, ALPHA_CAP, COMPOSITION_BUDGET.

        From EXPIRED on, a refusal has the `word`: it is signed by the hub, for this environment, and in order, so what it lowers counts
        (`lowering`). An expired one is still the newest that the hub said, and only a clock says that it is over. A ROLLBACK is what
        the hub said before its newest word; of two in EQUIVOCATION nobody knows which it is; and what is too large, unsigned or of
        another environment says nothing to this node.
        """
        document = parse_document(open_envelope(envelope, keys=self._keys, payload_type=PAYLOAD_TYPE, now=now))
        try:
            self._check_identity(document)
            return self._consider_document(document, now)
        except SnapshotRefused as refusal:
            refusal.revision = document["revision"]
            raise

    def _consider_document(self, document: dict[str, Any], now: datetime) -> Snapshot:
        try:
            with refused_as(SnapshotRefused, "SCHEMA"):
                expires_at = read_time(document.get("expires_at"), "expires_at")
            if expires_at <= now:
                raise SnapshotRefused(
                    "EXPIRED", f"revision {document['revision']} expired at {document['expires_at']}", document["expires_at"]
                )
            snapshot = parse_snapshot(document)
            self._check_fit(snapshot)
        except SnapshotRefused as refusal:
            refusal.word = Word.read(document)
            raise
        return snapshot

    def _check_fit(self, snapshot: Snapshot) -> None:
        # What only profiles need, only they cannot be served without: see `find_problem`.
        if refusal := self._find_unable(set(snapshot.capabilities) - set(required_capabilities(snapshot.profiles))):
            raise refusal
        listed = [model for model in snapshot.base_models if model.fingerprint == self._fingerprint]
        if not listed:
            raise SnapshotRefused(
                "BASE_MODEL_MISMATCH",
                f"the snapshot lists no base model with this node's fingerprint {self._fingerprint}",
                self._fingerprint,
            )
        known = {model.architecture_digest for model in listed}
        if self._architecture_digest and not known & {self._architecture_digest, ""}:
            raise SnapshotRefused(
                "ARCHITECTURE_MISMATCH",
                f"this node reads its model by an architecture with digest {self._architecture_digest[:12]}, the hub by {min(known)[:12]}; "
                "give both the same file",
                self._architecture_digest,
            )
        check_limits(snapshot)

    def find_problem(self, profile: Profile, snapshot: Snapshot) -> SnapshotRefused | None:
        """Why this node cannot serve one profile of a snapshot that it believes: CAPABILITY, or ALPHA_CAP by its own limit; else None."""
        if refusal := self._find_unable(profile.capabilities):
            return refusal
        problem = find_profile_problem(profile, snapshot.limits, self._alpha_cap)
        return SnapshotRefused("ALPHA_CAP", problem, profile.id) if problem else None

    def _find_unable(self, needed: Set[str]) -> SnapshotRefused | None:
        unknown = sorted(needed - self._capabilities)
        if not unknown:
            return None
        return SnapshotRefused("CAPABILITY", f"this node's engine cannot do {unknown[0]!r}; upgrade it or move the tenant", unknown[0])

    def hear(self, word: Word) -> None:
        """Remembers a word that was not applied, so that nothing older is believed after it."""
        self._newest = max(self._newest or (0, ""), (word.revision, word.content_digest))

    def accept(self, snapshot: Snapshot) -> None:
        """Remembers a snapshot that was applied, so that nothing older is believed again."""
        if self._highest is None or snapshot.revision >= self._highest[0]:
            self._highest = (snapshot.revision, snapshot.content_digest)
        self.hear(Word.of(snapshot))

    def _check_identity(self, document: dict[str, Any]) -> None:
        if document["environment"] != self._environment:
            raise SnapshotRefused(
                "ENVIRONMENT",
                f"the snapshot is for {document['environment']!r}, this node serves {self._environment!r}",
                document["environment"],
            )
        if self._newest is None:
            return
        revision, digest = self._newest
        if document["revision"] < revision:
            raise SnapshotRefused(
                "ROLLBACK", f"revision {document['revision']} is older than {revision}, which was heard before", str(revision)
            )
        if document["revision"] == revision and document["content_digest"] != digest:
            raise SnapshotRefused("EQUIVOCATION", f"revision {revision} was heard before with other content; find out who signed twice")
