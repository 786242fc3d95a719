"""What a node has heard from its hub of snapshots, and believes: how far it has come, in memory and on disk, and the hub's newest word."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from steernode.dsse import TrustedKeys, open_envelope
from steernode.errors import NodeError, SnapshotRefused, SteerError
from steernode.node.clock import Clocks
from steernode.node.engines import Stages
from steernode.node.store import NodeState, NodeStore
from steernode.snapshot.document import PAYLOAD_TYPE, parse_document
from steernode.snapshot.lowering import Word
from steernode.snapshot.records import Profile, Snapshot
from steernode.snapshot.trust import TrustedSnapshots

log = logging.getLogger("steernode.node")


@dataclass(frozen=True, slots=True)
class Nack:
    """Why the newest snapshot is not in force. `revision` is None when it could not even be read."""

    code: str
    message: str
    revision: int | None


class HeardSnapshots:
    """The snapshots of one environment, by the rules of `snapshot.trust`. It judges and remembers, and applies nothing."""

    def __init__(
        self,
        *,
        environment: str,
        store: NodeStore,
        keys: TrustedKeys,
        engine: Stages,
        alpha_cap: Mapping[str, Decimal] | None,
        clocks: Clocks,
    ) -> None:
        self._environment, self._store, self._keys, self._engine = environment, store, keys, engine
        self._alpha_cap, self._clocks = alpha_cap, clocks
        self._trusted = self._trust(None)

    def _trust(self, highest: tuple[int, str] | None) -> TrustedSnapshots:
        return TrustedSnapshots(
            environment=self._environment,
            keys=self._keys,
            fingerprint=self._engine.fingerprint,
            # An engine of another kind may know the model by its class, and have no file to go by.
            architecture_digest=getattr(self._engine, "architecture_digest", ""),
            highest=highest,
            capabilities=self._engine.capabilities,
            alpha_cap=self._alpha_cap,
        )

    @property
    def highest(self) -> tuple[int, str] | None:
        """The newest snapshot ever accepted, which a restart or a refusal does not take back: revision and content digest."""
        return self._trusted.highest

    @property
    def newest(self) -> tuple[int, str] | None:
        """Of the newest snapshot ever accepted or heard of: only one above it is news to this node."""
        return self._trusted.newest

    def find_problem(self, profile: Profile, snapshot: Snapshot) -> SnapshotRefused | None:
        """As `TrustedSnapshots.find_problem`."""
        return self._trusted.find_problem(profile, snapshot)

    def consider(self, envelope: bytes) -> tuple[Snapshot, datetime]:
        """The snapshot, and the time by which it is accepted: the steady one, or else the machine's, which may have been set right
        since this process began with a wrong one. Raises: SnapshotRefused."""
        now, wall = self._clocks.moments()
        try:
            return self._trusted.consider(envelope, now), now
        except SnapshotRefused as refusal:
            if refusal.code not in ("EXPIRED", "SIGNATURE") or wall == now:
                raise
            return self._trusted.consider(envelope, wall), wall

    def accept(self, snapshot: Snapshot) -> None:
        """It was applied, so that what was said before it is of no account."""
        self._store.forget_word()
        self._trusted.accept(snapshot)

    def hear(self, word: Word, envelope: bytes) -> None:
        """It could not be applied. A restart finds it again."""
        self._trusted.hear(word)
        try:
            if self._store.read_word() != envelope:
                self._store.write_word(envelope)
        except NodeError as error:
            log.warning("%s: %s", error.code, error.message)

    # -- After a restart ----------------------------------------------------------------------------------------------------------

    def check_environment(self) -> None:
        """Before anything of the folder is touched: another node may be running on it. Raises: NodeError STORE_ENVIRONMENT."""
        try:
            state = self._store.read_state()
        except NodeError:
            return
        if state is not None and state.environment != self._environment:
            raise NodeError(
                "STORE_ENVIRONMENT",
                f"{self._store.folder} belongs to a node of {state.environment!r}, not {self._environment!r}; give another folder",
                str(self._store.folder),
            )

    def recall(self, state: NodeState) -> tuple[Snapshot, bytes]:
        """The snapshot that was accepted last, and its signed bytes. How far this node had come holds, even if that is refused.

        Raises: NodeError STORE_CORRUPT; SnapshotRefused.
        """
        self._trusted = self._trust((state.highest_revision, state.highest_digest))
        envelope = self._store.read_envelope()
        if envelope is None:
            raise NodeError("STORE_CORRUPT", f"{self._store.folder / 'snapshot.dsse'} is missing", "snapshot.dsse")
        # Judged by the time it was accepted at: since then only its age counts, and for that there is the stale policy.
        return self._trusted.consider(envelope, state.accepted_at), envelope

    def recall_word(self) -> tuple[Word | None, Nack | None]:
        """What the hub said last and could not be applied, and why not. Nothing of what is in force by now.

        Raises: SnapshotRefused if it cannot be believed any more: then nobody knows what it took away.
        """
        envelope = self._store.read_word()
        if envelope is None:
            return None, None
        try:
            word = Word.of(self._trusted.consider(envelope, self._clocks.now()))
            refusal = Nack("NOT_APPLIED", "it was kept before it could be applied, and waits for the hub", word.revision)
        except SnapshotRefused as error:
            if error.word is None and error.code != "ROLLBACK":
                raise
            word, refusal = error.word, Nack(error.code, error.message, error.revision)
        highest = self._trusted.highest
        if word is None or (highest is not None and word.revision <= highest[0]):
            return None, None
        self._trusted.hear(word)
        return word, refusal

    def recall_highest(self) -> None:
        """How far a node had come whose state is unreadable, if the signed bytes still say so."""
        if self._trusted.highest is not None:
            return
        try:
            envelope = self._store.read_envelope() or b""
            document = parse_document(open_envelope(envelope, keys=self._keys, payload_type=PAYLOAD_TYPE, now=self._clocks.now()))
        except SteerError:
            return
        if document["environment"] == self._environment:
            self._trusted = self._trust((document["revision"], document["content_digest"]))
