"""Follows the hub for one engine: polls for snapshots, believes only what `trust` believes, stages, swaps, keeps on disk.

It knows no request. Whoever answers requests asks `deciding.decide` about `in_force`, which is replaced as a whole. Whatever goes
wrong with a new snapshot, the one in force stays in force and the hub is told why. Nothing is ever steered without a verified
snapshot, nor once a verified one no longer lists this node's files.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from steernode.dsse import TrustedKeys
from steernode.errors import HubError, NodeError, SnapshotRefused, SteerError
from steernode.hub.client import Fetched, NotModified
from steernode.node.clock import NEVER, Clocks
from steernode.node.current import Current, Staged
from steernode.node.deciding import InForce
from steernode.node.engines import Stages
from steernode.node.heard import HeardSnapshots, Nack
from steernode.node.identity import follow_trust
from steernode.node.proving import ModelProof
from steernode.node.staging import Vectors, stage_profiles
from steernode.node.stops import StopProtocol, Stops
from steernode.node.store import NodeState, NodeStore
from steernode.snapshot.lowering import Word
from steernode.snapshot.records import Snapshot
from steernode.snapshot.trust import LEFT_BEHIND
from steernode.words import ENDED_CODES

log = logging.getLogger("steernode.node")


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


class Follower:
    """One engine under one environment of one hub. `start` reads the disk; `poll` asks the hub once; `runner` keeps asking.

    `swapping` is entered around each swap of the engine and of `in_force` together. Whoever may not see one without the other
    puts its gate there, before `start`. A stop replaces `in_force` without it, because nothing may hold a stop back.

    `clock` and `wall` are the two of `clock.Clocks`.
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
        self.boot_id = ""
        self.begin_boot()
        self.counters: Counter[str] = Counter()
        self._clocks = Clocks(clock, wall)
        self.now = self._clocks.now
        self._current, self._store, self._keys = Current(engine), NodeStore(store), keys
        self._heard = HeardSnapshots(
            environment=environment, store=self._store, keys=keys, engine=engine, alpha_cap=alpha_cap, clocks=self._clocks
        )
        self._refusal: Nack | None = None
        self.proof = ModelProof(engine)
        self.stops = Stops(
            environment=environment,
            store=store,
            keys=keys,
            moments=self._clocks.moments,
            obey=self._current.obey,
            renew=self.follow_trust,
        )

    @property
    def in_force(self) -> InForce | None:
        return self._current.view

    @property
    def swapping(self) -> Callable[[], AbstractContextManager[None]]:
        return self._current.swapping

    @swapping.setter
    def swapping(self, gate: Callable[[], AbstractContextManager[None]]) -> None:
        self._current.swapping = gate

    @property
    def refusal(self) -> Nack | None:
        """Why the newest snapshot is not in force, or else what is wrong with the stops; None if all is well."""
        trouble = self.stops.trouble
        return self._refusal or (Nack(trouble.code, trouble.message, None) if trouble else None)

    @property
    def stop_report(self) -> dict[str, Any] | None:
        """What reports say of stops: sequence, digest, held, surplus. None before the first was heard."""
        return self.stops.report

    @property
    def unservable(self) -> list[dict[str, Any]]:
        """The profiles for this node's own files that it cannot serve, and why."""
        in_force = self.in_force
        return [asdict(each) for each in in_force.unservable.values()] if in_force else []

    @property
    def highest_revision(self) -> int | None:
        """Of the newest snapshot ever accepted or heard of, which a restart or a refusal does not take back. This node believes nothing
        older, so a hub that was restored publishes above it."""
        return self._heard.newest[0] if self._heard.newest else None

    def begin_boot(self) -> None:
        """Reports are counted anew from here on, under a name that no report has had."""
        self.boot_id = uuid.uuid4().hex

    def start(self) -> None:
        """Takes up the last snapshot this node accepted, so that it can serve while the hub is away.

        A file that cannot be believed means no steering until the hub answers; the stops on disk are obeyed in any case.
        Raises: NodeError STORE_ENVIRONMENT.
        """
        self._heard.check_environment()
        self.stops.start()
        try:
            state = self._store.read_state()
            if state is not None:
                self._restore(state)
        except SteerError as error:
            log.error("starting without steering, the stored state is refused: %s: %s", error.code, error.message)
            self._refusal = Nack(error.code, error.message, None)
            self._heard.recall_highest()

    def _restore(self, state: NodeState) -> None:
        snapshot, envelope = self._heard.recall(state)
        # Nobody has vouched for anything in the future: one of the clocks was wrong, and nobody knows since when.
        contact = state.last_contact_at if state.last_contact_at <= self.now() else NEVER
        word, self._refusal = self._heard.recall_word()
        staged = self._stage(snapshot)
        self._current.swap(snapshot, envelope, state.etag, accepted_at=state.accepted_at, contact_at=contact, staged=staged)
        self._current.note_word(word, is_left_behind=self._refusal is not None and self._refusal.code in LEFT_BEHIND)
        log.info("serving revision %d from disk, last vouched for at %s", snapshot.revision, contact.isoformat())

    def poll(self, wait_seconds: int = 0) -> PollOutcome:
        """Asks the hub once and applies what it has. Raises: HubError if the hub cannot be asked; what is in force stays."""
        in_force = self.in_force
        # Only the ETag of an accepted snapshot is ever sent: one that was refused must be fetched and judged again.
        try:
            answer = self.client.snapshot((in_force.etag or None) if in_force else None, wait_seconds, stop_digest=self.stops.known_digest)
        except HubError as error:
            if error.code in ENDED_CODES:
                self._let_go(error)
            if error.code != "HUB_TOO_LARGE":
                raise
            return self._refuse(Nack("LIMIT", error.message, None))
        finally:
            self._heed_stop()
        read_at = self._clocks.ago(answer.record_age_seconds)
        if in_force is not None and (isinstance(answer, NotModified) or answer.envelope == in_force.envelope):
            self._note_contact(in_force, answer.etag if isinstance(answer, Fetched) else in_force.etag, read_at)
            self._mend()
            return PollOutcome.UNCHANGED
        if isinstance(answer, NotModified):
            raise HubError("HUB_ANSWER", "the hub says nothing changed, but this node has nothing yet")
        word, revision = None, None
        try:
            snapshot, judged_at = self._heard.consider(answer.envelope)
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
            self.stops.look_anew()
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

    def _apply(self, snapshot: Snapshot, fetched: Fetched, judged_at: datetime, read_at: datetime) -> None:
        in_force = self.in_force
        if in_force is not None and in_force.word is None:
            # What it takes away counts while it is prepared, and within replies that the swap waits for.
            self._current.note_word(Word.of(snapshot, is_coming=True))
        staged = self._stage(snapshot)
        # Written before it is in force, so that a node never serves what it would not find again after a restart.
        contact = self._clocks.dated(read_at)
        state = NodeState(self.environment, fetched.etag, snapshot.revision, snapshot.content_digest, judged_at, contact)
        self._store.write_snapshot(fetched.envelope, state)
        self._current.swap(snapshot, fetched.envelope, fetched.etag, accepted_at=judged_at, contact_at=read_at, staged=staged)
        self._heard.accept(snapshot)
        self._refusal = None
        self.counters["snapshots_applied"] += 1
        log.info("revision %d is in force", snapshot.revision)

    def _mend(self) -> None:
        """Tries again what a profile was not served for, once the hub answers."""
        held = self.in_force
        if held is None or not self._vectors().can_mend(held.unservable, held.snapshot):
            return
        try:
            staged = self._stage(held.snapshot)
        except SteerError as error:
            log.error("what was missing is here, but cannot be used: %s: %s", error.code, error.message)
            return
        self._current.restage(staged)

    def _heed(self, word: Word | None, refusal: Nack, envelope: bytes) -> None:
        """What a snapshot lowers that cannot be applied counts from now on, and after a restart, until one that is newer is applied."""
        held = self.in_force
        if word is None or held is None:
            return
        self._current.note_word(word, is_left_behind=held.is_left_behind or refusal.code in LEFT_BEHIND)
        self._heard.hear(word, envelope)

    def _let_go(self, told: HubError) -> None:
        """The hub says that this node is withdrawn, or that another process has its place. No kill would reach it any more, so it steers
        nobody, after a restart either."""
        if self.in_force is None:
            return
        log.error("nobody is steered until this node is enrolled again, or started with what it enrolled with: %s", told.message)
        self._current.clear()
        self._store.forget_snapshot()

    def _refuse(self, refusal: Nack) -> PollOutcome:
        if refusal != self._refusal:
            log.error("snapshot refused, the one in force stays: %s: %s", refusal.code, refusal.message)
        self._refusal = refusal
        self.counters["snapshots_refused"] += 1
        return PollOutcome.REFUSED

    def _note_contact(self, in_force: InForce, etag: str, read_at: datetime) -> None:
        """The hub read in its record then that what is in force still holds. Past its expiry only a newly signed snapshot can say so."""
        if min(self._clocks.moments()) >= in_force.snapshot.expires_at:
            read_at = NEVER
        self._current.note(etag=etag, last_contact_at=max(read_at, in_force.last_contact_at))
        # A hub that has forgotten its newest word, because it was restored, takes nothing of it back.
        if in_force.word is None:
            self._current.note(is_left_behind=False)
            self._refusal = None

    def remember_contact(self) -> None:
        """Puts the time of the last contact on disk, where a restart counts staleness from. Once per heartbeat is enough."""
        held, highest = self.in_force, self._heard.highest
        if held is None or highest is None:
            return
        contact = self._clocks.dated(held.last_contact_at)
        try:
            self._store.write_state(NodeState(self.environment, held.etag, *highest, held.accepted_at, contact))
        except NodeError as error:
            log.warning("%s: %s", error.code, error.message)

    def _stage(self, snapshot: Snapshot) -> Staged:
        self.proof.check(snapshot)
        return stage_profiles(
            snapshot,
            engine=self.engine,
            vectors=self._vectors(),
            find_problem=lambda profile: self._heard.find_problem(profile, snapshot),
        )

    def _vectors(self) -> Vectors:
        return Vectors(self._store, self.client, self.engine.d_model)
