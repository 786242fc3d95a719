"""Follows the hub for one engine: polls for snapshots, believes only what `trust` believes, stages, swaps, keeps on disk.

It knows no request. Whoever answers requests asks `deciding.decide` about `in_force`, which is replaced as a whole. Whatever goes
wrong with a new snapshot, the one in force stays in force and the hub is told why. Nothing is ever steered without a verified
snapshot, nor once a verified one no longer lists this node's files.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from steernode.dsse import TrustedKeys, open_envelope
from steernode.errors import HubError, NodeError, SnapshotRefused, SteerError
from steernode.hub.client import Fetched, NotModified
from steernode.node.clock import SteadyClock, read_wall_clock
from steernode.node.deciding import InForce, Unservable
from steernode.node.engines import Stages
from steernode.node.identity import follow_trust
from steernode.node.staging import Vectors, stage_profiles
from steernode.node.stops import StopProtocol, Stops
from steernode.node.store import NodeState, NodeStore
from steernode.snapshot.document import PAYLOAD_TYPE, parse_document
from steernode.snapshot.lowering import Word, lower
from steernode.snapshot.records import Kill, Snapshot
from steernode.snapshot.trust import TrustedSnapshots

log = logging.getLogger("steernode.node")

# What the engine prepared, and the profiles that it could not.
Staged = tuple[Any, dict[tuple[str, int], Unservable]]


# Of a node whose disk cannot have been written when it says: nobody has vouched for anything.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_LONG_AGO = 10.0**9


class FleetProtocol(StopProtocol, Protocol):
    """What a node asks of the hub; `hub.client.FleetClient` is the real one."""

    def snapshot(self, etag: str | None, wait_seconds: int = 0, *, stop_digest: str = "") -> NotModified | Fetched: ...
    def blob(self, sha256: str) -> bytes: ...
    def report(self, report: Mapping[str, Any]) -> None: ...
    def signed_trust(self, version: int) -> bytes | None: ...


class PollOutcome(StrEnum):
    APPLIED = "applied"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Nack:
    """Why the newest snapshot is not in force. `revision` is None when it could not even be read."""

    code: str
    message: str
    revision: int | None


class Follower:
    """One engine under one environment of one hub. `start` reads the disk; `poll` asks the hub once; `runner` keeps asking.

    `swapping` is entered around each swap of the engine and of `in_force` together. Whoever may not see one without the other
    puts its gate there, before `start`. A stop replaces `in_force` without it, because nothing may hold a stop back.

    `clock` says how long ago something was, and `wall` what the time is now; they differ once somebody sets the machine's clock.
    """

    def __init__(
        self,
        *,
        environment: str,
        name: str,
        store: Path,
        client: FleetProtocol,
        keys: TrustedKeys,
        engine: Stages,
        alpha_cap: Mapping[str, Decimal] | None = None,
        clock: Callable[[], datetime] | None = None,
        wall: Callable[[], datetime] | None = None,
    ) -> None:
        self.environment, self.name, self.client, self.engine = environment, name, client, engine
        self.boot_id = uuid.uuid4().hex
        self.counters: Counter[str] = Counter()
        self.now = clock or SteadyClock()
        self.wall = wall or clock or read_wall_clock
        self.in_force: InForce | None = None
        self._refusal: Nack | None = None
        self.swapping: Callable[[], AbstractContextManager[None]] = nullcontext
        self._store, self._keys, self._alpha_cap = NodeStore(store), keys, alpha_cap
        self._trusted = self._trust(None)
        # Whoever replaces `in_force` by another one holds it, for no longer than that.
        self._replacing = threading.Lock()
        self._stopped: tuple[Kill, ...] = ()
        self.stops = Stops(environment=environment, store=store, keys=keys, moments=lambda: (self.now(), self.wall()), obey=self._obey)

    @property
    def refusal(self) -> Nack | None:
        """Why the newest snapshot is not in force, or else what is wrong with the stops; None if all is well."""
        trouble = self.stops.trouble
        return self._refusal or (Nack(trouble.code, trouble.message, None) if trouble else None)

    @property
    def stop_report(self) -> dict[str, Any] | None:
        """What reports say of stops: sequence, digest, held, surplus. None before the first was heard."""
        return self.stops.report

    def _obey(self, kills: tuple[Kill, ...]) -> None:
        with self._replacing:
            if kills != self._stopped:
                self._stopped = kills
                if self.in_force is not None:
                    self.in_force = replace(self.in_force, stopped=kills)

    @property
    def unservable(self) -> list[dict[str, Any]]:
        """The profiles for this node's own files that it cannot serve, and why."""
        return [asdict(each) for each in self.in_force.unservable.values()] if self.in_force else []

    @property
    def highest_revision(self) -> int | None:
        """Of the newest snapshot ever accepted, which a restart or a refusal does not take back."""
        return self._trusted.highest[0] if self._trusted.highest else None

    def start(self) -> None:
        """Takes up the last snapshot this node accepted, so that it can serve while the hub is away.

        A file that cannot be believed means no steering until the hub answers; the stops on disk are obeyed in any case.
        Raises: NodeError STORE_ENVIRONMENT.
        """
        self._check_environment()
        self.stops.start()
        try:
            state = self._store.read_state()
            if state is not None:
                self._restore(state)
        except SteerError as error:
            log.error("starting without steering, the stored state is refused: %s: %s", error.code, error.message)
            self._refusal = Nack(error.code, error.message, None)
            if self._trusted.highest is None:
                self._trusted = self._trust(self._highest_from_envelope())

    def _check_environment(self) -> None:
        """Before anything of the folder is touched: another node may be running on it."""
        try:
            state = self._store.read_state()
        except NodeError:
            return
        if state is not None and state.environment != self.environment:
            raise NodeError(
                "STORE_ENVIRONMENT",
                f"{self._store.folder} belongs to a node of {state.environment!r}, not {self.environment!r}; give another folder",
                str(self._store.folder),
            )

    def _restore(self, state: NodeState) -> None:
        self._trusted = self._trust((state.highest_revision, state.highest_digest))
        envelope = self._store.read_envelope()
        if envelope is None:
            raise NodeError("STORE_CORRUPT", f"{self._store.folder / 'snapshot.dsse'} is missing", "snapshot.dsse")
        # Judged by the time it was accepted at: since then only its age counts, and for that there is the stale policy.
        snapshot = self._trusted.consider(envelope, state.accepted_at)
        # Nobody has vouched for anything in the future: one of the clocks was wrong, and nobody knows since when.
        contact = state.last_contact_at if state.last_contact_at <= self.now() else NEVER
        word, self._refusal = self._read_word()
        self._swap(snapshot, envelope, replace(state, last_contact_at=contact), self._stage(snapshot))
        self._note_word(word, is_left_behind=self._refusal is not None and self._refusal.code == "BASE_MODEL_MISMATCH")
        log.info("serving revision %d from disk, last vouched for at %s", snapshot.revision, contact.isoformat())

    def _read_word(self) -> tuple[Word | None, Nack | None]:
        """What the hub said last and could not be applied, and why not. Nothing of what is in force by now.

        Raises: SnapshotRefused if it cannot be believed any more: then nobody knows what it took away.
        """
        envelope = self._store.read_word()
        if envelope is None:
            return None, None
        try:
            word = Word.of(self._trusted.consider(envelope, self.now()))
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

    def _highest_from_envelope(self) -> tuple[int, str] | None:
        """How far a node had come whose state is unreadable, if the signed bytes still say so."""
        try:
            envelope = self._store.read_envelope() or b""
            document = parse_document(open_envelope(envelope, keys=self._keys, payload_type=PAYLOAD_TYPE, now=self.now()))
        except SteerError:
            return None
        return (document["revision"], document["content_digest"]) if document["environment"] == self.environment else None

    def _trust(self, highest: tuple[int, str] | None) -> TrustedSnapshots:
        return TrustedSnapshots(
            environment=self.environment,
            keys=self._keys,
            fingerprint=self.engine.fingerprint,
            highest=highest,
            capabilities=self.engine.capabilities,
            alpha_cap=self._alpha_cap,
        )

    def poll(self, wait_seconds: int = 0) -> PollOutcome:
        """Asks the hub once and applies what it has. Raises: HubError if the hub cannot be asked; what is in force stays."""
        in_force = self.in_force
        # Only the ETag of an accepted snapshot is ever sent: one that was refused must be fetched and judged again.
        try:
            answer = self.client.snapshot((in_force.etag or None) if in_force else None, wait_seconds, stop_digest=self.stops.known_digest)
        except HubError as error:
            if error.code == "NODE_WITHDRAWN":
                self._let_go()
            if error.code != "HUB_TOO_LARGE":
                raise
            return self._refuse(Nack("LIMIT", error.message, None))
        finally:
            self._heed_stop()
        read_at = self.now() - timedelta(seconds=answer.record_age_seconds) if answer.record_age_seconds < _LONG_AGO else NEVER
        if in_force is not None and (isinstance(answer, NotModified) or answer.envelope == in_force.envelope):
            self._note_contact(in_force, answer.etag if isinstance(answer, Fetched) else in_force.etag, read_at)
            self._mend()
            return PollOutcome.UNCHANGED
        if isinstance(answer, NotModified):
            raise HubError("HUB_ANSWER", "the hub says nothing changed, but this node has nothing yet")
        word, revision = None, None
        try:
            snapshot, judged_at = self._consider(answer.envelope)
            word, revision = Word.of(snapshot), snapshot.revision
            self._apply(snapshot, answer, judged_at, read_at)
        except SnapshotRefused as error:
            word = error.word or word
            refusal = Nack(error.code, error.message, error.revision or revision)
        except SteerError as error:
            refusal = Nack(error.code, error.message, revision)
        except Exception as error:  # An engine may fail in ways nobody foresaw; the node must go on serving.
            log.exception("a snapshot could not be applied")
            refusal = Nack("INTERNAL", f"{type(error).__name__}: {error}", revision)
        else:
            return PollOutcome.APPLIED
        self._heed(word, refusal, answer.envelope)
        return self._refuse(refusal)

    def follow_trust(self) -> bool:
        """Take up the hub's newest trust document, if it may be believed; says whether it was new. It is asked again anyway."""
        try:
            is_new = follow_trust(self._store.folder, self._keys, self.client, self.now())
        except SteerError as error:
            level = logging.DEBUG if isinstance(error, HubError) else logging.WARNING
            log.log(level, "the trusted keys stay as they are: %s: %s", error.code, error.message)
            return False
        if is_new:
            log.warning("the hub's keys have changed: version %d of its trust document is followed", self._keys.version)
        return is_new

    def _heed_stop(self) -> None:
        """Takes up the stop that the hub's last answer named, before anything is made of the rest of it, and whatever that is."""
        named = self.client.stop_digest
        if not named or named == self.stops.known_digest:
            return
        try:
            self.stops.ask(self.client)
        except HubError as error:
            log.warning("the stop %s cannot be fetched: %s: %s", named[:12], error.code, error.message)

    def _consider(self, envelope: bytes) -> tuple[Snapshot, datetime]:
        """The snapshot, and the time by which it is accepted: the steady one, or else the machine's, which may have been set right
        since this process began with a wrong one. Raises: SnapshotRefused."""
        now = self.now()
        try:
            return self._trusted.consider(envelope, now), now
        except SnapshotRefused as refusal:
            wall = self.wall()
            if refusal.code not in ("EXPIRED", "SIGNATURE") or wall == now:
                raise
            return self._trusted.consider(envelope, wall), wall

    def _apply(self, snapshot: Snapshot, fetched: Fetched, judged_at: datetime, read_at: datetime) -> None:
        if self.in_force is not None and self.in_force.word is None:
            # What it takes away counts while it is prepared, and within replies that the swap waits for.
            self._note_word(Word.of(snapshot, is_coming=True))
        staged = self._stage(snapshot)
        # Written before it is in force, so that a node never serves what it would not find again after a restart.
        state = NodeState(self.environment, fetched.etag, snapshot.revision, snapshot.content_digest, judged_at, self._dated(read_at))
        self._store.write_snapshot(fetched.envelope, state)
        self._swap(snapshot, fetched.envelope, replace(state, last_contact_at=read_at), staged)
        self._store.forget_word()
        self._trusted.accept(snapshot)
        self._refusal = None
        self.counters["snapshots_applied"] += 1
        log.info("revision %d is in force", snapshot.revision)

    def _swap(self, snapshot: Snapshot, envelope: bytes, state: NodeState, staged: Staged) -> None:
        handle, unservable = staged
        times = state.accepted_at, state.last_contact_at
        with self.swapping():
            self.engine.swap(handle)
            with self._replacing:
                fingerprint, stopped = self.engine.fingerprint, self._stopped
                self.in_force = InForce(snapshot, envelope, state.etag, *times, fingerprint, handle, unservable, stopped=stopped)

    def _mend(self) -> None:
        """Tries again what a profile was not served for, once the hub answers."""
        held = self.in_force
        if held is None or not self._vectors().can_mend(held.unservable, held.snapshot):
            return
        try:
            handle, unservable = self._stage(held.snapshot)
        except SteerError as error:
            log.error("what was missing is here, but cannot be used: %s: %s", error.code, error.message)
            return
        with self.swapping():
            self.engine.swap(handle)
            self._note(staged=handle, unservable=unservable)

    def _heed(self, word: Word | None, refusal: Nack, envelope: bytes) -> None:
        """What a snapshot lowers that cannot be applied counts from now on, and after a restart, until one that is newer is applied."""
        held = self.in_force
        if word is None or held is None:
            return
        self._trusted.hear(word)
        self._note_word(word, is_left_behind=held.is_left_behind or refusal.code == "BASE_MODEL_MISMATCH")
        try:
            if self._store.read_word() != envelope:
                self._store.write_word(envelope)
        except NodeError as error:
            log.warning("%s: %s", error.code, error.message)

    def _let_go(self) -> None:
        """The hub says that this node is withdrawn. No kill would reach it any more, so it steers nobody, after a restart either."""
        if self.in_force is None:
            return
        log.error("this node is withdrawn; it steers nobody until it is enrolled again")
        staged = self.engine.stage([], {})
        with self.swapping():
            self.engine.swap(staged)
            with self._replacing:
                self.in_force = None
        self._store.forget_snapshot()

    def _refuse(self, refusal: Nack) -> PollOutcome:
        if refusal != self._refusal:
            log.error("snapshot refused, the one in force stays: %s: %s", refusal.code, refusal.message)
        self._refusal = refusal
        self.counters["snapshots_refused"] += 1
        return PollOutcome.REFUSED

    def _note_contact(self, in_force: InForce, etag: str, read_at: datetime) -> None:
        """The hub read in its record then that what is in force still holds. Past its expiry only a newly signed snapshot can say so."""
        if min(self.now(), self.wall()) >= in_force.snapshot.expires_at:
            read_at = NEVER
        self._note(etag=etag, last_contact_at=max(read_at, in_force.last_contact_at))
        # A hub that has forgotten its newest word, because it was restored, takes nothing of it back.
        if in_force.word is None:
            self._note(is_left_behind=False)
            self._refusal = None

    def _note(self, **changes: Any) -> None:
        """Something was heard about what is in force, if anything is."""
        with self._replacing:
            if self.in_force is not None:
                self.in_force = replace(self.in_force, **changes)

    def _dated(self, moment: datetime) -> datetime:
        """A moment of the steady clock as the machine's own would have told it: what another process can make something of."""
        return moment if moment == NEVER else self.wall() - (self.now() - moment)

    def _note_word(self, word: Word | None, **changes: Any) -> None:
        # Found out before anybody has to wait for it: a stop may come meanwhile.
        lowered = lower(self.in_force.snapshot, word) if word is not None and self.in_force is not None else None
        self._note(word=word, lowered=lowered, **changes)

    def remember_contact(self) -> None:
        """Puts the time of the last contact on disk, where a restart counts staleness from. Once per heartbeat is enough."""
        if self.in_force is None or self._trusted.highest is None:
            return
        held = self.in_force
        revision, digest = self._trusted.highest
        try:
            contact = self._dated(held.last_contact_at)
            self._store.write_state(NodeState(self.environment, held.etag, revision, digest, held.accepted_at, contact))
        except NodeError as error:
            log.warning("%s: %s", error.code, error.message)

    def _stage(self, snapshot: Snapshot) -> Staged:
        return stage_profiles(
            snapshot,
            engine=self.engine,
            vectors=self._vectors(),
            find_problem=lambda profile: self._trusted.find_problem(profile, snapshot),
        )

    def _vectors(self) -> Vectors:
        return Vectors(self._store, self.client, self.engine.d_model)
