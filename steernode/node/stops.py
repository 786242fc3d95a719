"""What a node has heard of stops: believes, obeys at once, keeps on disk, and knows what the hub has yet to hear of.

It knows no snapshot and needs none: nothing that is wrong with one keeps a stop out.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from steernode.dsse import TrustedKeys
from steernode.errors import HubError, NodeError, SteerError, StopRefused
from steernode.hub.client import Fetched, NotModified
from steernode.node.stopstore import StopState, StopStore
from steernode.snapshot.records import Kill
from steernode.stop.document import HUB, StopStatement
from steernode.stop.held import Held, HeldStops
from steernode.stop.trust import believe_stop, read_stop

log = logging.getLogger("steernode.node")

# A report names so many of the kills that the hub does not list.
MAX_SURPLUS_TOLD = 50
# What newer keys may put right.
_OF_KEYS = ("SIGNATURE", "STOP_KEY")
# A statement that was refused is not asked for again so soon, unless there are newer keys.
_REFUSED_SECONDS = 30.0
# Statements given back in one go, and how long each rests after the hub took it, or refused it.
_MAX_HANDED_BACK = 16
_TAKEN_SECONDS, _UNWANTED_SECONDS, _UNHEARD_SECONDS = 60.0, 600.0, 5.0


class StopProtocol(Protocol):
    """What a node asks of the hub about stops; `hub.client.FleetClient` is the real one."""

    stop_digest: str

    def stop(self, digest: str = "", wait_seconds: int = 0) -> NotModified | Fetched: ...
    def hand_back_stop(self, envelope: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Trouble:
    code: str
    message: str


class Stops:
    """The stops of one node. `start` reads the disk; `ask` the hub; `look` the inbox. Threads may share one.

    `obey` is told what is killed in the environment whenever that may have changed. `moments` are the times by which a key may count.
    `renew` takes up newer keys into `keys` if the hub has any.
    """

    def __init__(
        self,
        *,
        environment: str,
        store: Path,
        keys: TrustedKeys,
        moments: Callable[[], Sequence[datetime]],
        obey: Callable[[tuple[Kill, ...]], None],
        renew: Callable[[], object],
    ) -> None:
        self._environment, self._store, self._keys = environment, StopStore(store), keys
        self._moments, self._obey, self._renew = moments, obey, renew
        self._lock = threading.RLock()
        self._heard = HeldStops()
        # What is on disk, as far as that is known, and the signed statements that are held by.
        self._kept: HeldStops | None = None
        self._envelopes: dict[str, bytes] = {}
        # Files that could not be read at the start. Perhaps the next start can, so they are not removed.
        self._unread: set[str] = set()
        self._disk_trouble: Trouble | None = None
        # Why the hub's newest statement was refused; which one that is, and until when it need not be looked at again.
        self._refusal: Trouble | None = None
        self._known = "", math.inf
        self._rests_until: dict[str, float] = {}

    @property
    def heard(self) -> HeldStops:
        return self._heard

    @property
    def trouble(self) -> Trouble | None:
        """Why a stop was not understood, or is not safe on disk; None if neither."""
        return self._refusal or self._disk_trouble

    @property
    def known_digest(self) -> str:
        """Of the newest statement of the hub that this node has dealt with; empty before the first."""
        digest, until = self._known
        return digest if digest and time.monotonic() < until else self._heard.digest

    @property
    def report(self) -> dict[str, Any] | None:
        """What a report says of stops: by what is on disk, because what is not there yet is not held for good. None before the first."""
        kept = self._kept
        if kept is None or not kept.digest:
            return None
        return {
            "sequence": kept.sequence,
            "digest": kept.digest,
            "held": len(kept.held),
            "surplus": sorted(kept.surplus)[:MAX_SURPLUS_TOLD],
        }

    def start(self) -> None:
        """Takes up what this node held when it last ran, whatever the state of the rest of its folder."""
        with self._lock:
            self._store.make_inbox()
            try:
                state = self._store.read_state()
            except NodeError as error:
                # Then every statement there is counts. That can only add.
                log.error("%s: %s", error.code, error.message)
                state = None
            self._recall(state or StopState())
            self._obey(self._heard.kills_in(self._environment))
            if self._heard != HeldStops():
                self._keep()
        self.look()

    def _recall(self, state: StopState) -> None:
        """What the state names is taken up as it was: its signatures were checked then, and a key that has ended since releases nothing."""
        found = self._read_stops()
        named = {digest: found.pop(digest) for digest in {state.digest, *state.held} if digest in found}
        held = {
            kill.id: Held(kill, digest, statement.issuer)
            for digest, (statement, _envelope) in named.items()
            for kill in statement.kills
            if kill.id in state.held.get(digest, ())
        }
        # Without the newest statement it has no digest, so that it is asked for again.
        self._heard = HeldStops(state.sequence, "", held)
        if state.digest in named:
            newest = named[state.digest][0]
            listed = {kill.id: Held(kill, state.digest, HUB) for kill in newest.kills}
            self._heard = HeldStops(state.sequence, state.digest, listed | held, frozenset(listed), newest.adopted)
        self._envelopes = {digest: envelope for digest, (_statement, envelope) in named.items()}
        if lost := {state.digest, *state.held} - {"", *named}:
            log.error("STORE_CORRUPT: %d stops that this node held are gone from its disk", len(lost))
        # Written just before the power went; or all there is, offline stops first, then the hub's as it wrote them.
        for digest, (statement, envelope) in sorted(found.items(), key=lambda each: (each[1][0].issuer == HUB, each[1][0].sequence)):
            try:
                self._hear(envelope)
            except StopRefused as error:
                log.error("the stop %s on disk is of no trusted key any more, and is obeyed all the same: %s", digest[:12], error.message)
                self._envelopes[digest] = envelope
                self._heard = self._heard.add(statement, digest)

    def _read_stops(self) -> dict[str, tuple[StopStatement, bytes]]:
        """Every statement on disk that is what its name says, by digest."""
        found = {}
        for digest in self._store.digests():
            try:
                envelope = self._store.read_envelope(digest) or b""
                statement, really = read_stop(envelope)
                if really != digest:
                    raise StopRefused("DIGEST", f"its payload has the digest {really}")
            except StopRefused as error:
                log.error("the stop %s on disk cannot be read: %s: %s", digest[:12], error.code, error.message)
                self._unread.add(digest)
                continue
            found[digest] = (statement, envelope)
        return found

    def ask(self, client: StopProtocol, wait_seconds: int = 0) -> bool:
        """Asks the hub once for its newest statement, held back for up to `wait_seconds` while it is the one that is known.

        Returns whether that changed anything. Raises: HubError.
        """
        asked = self.known_digest
        answer = client.stop(asked, wait_seconds)
        if isinstance(answer, NotModified):
            if asked == self._heard.digest:
                # So what was refused meanwhile was not the hub's, or is no longer its newest.
                self._refusal = None
            return False
        digest, before = answer.etag.removeprefix("W/").strip('"'), self._heard
        version, refusal = self._keys.version, self._take(digest, answer.envelope)
        if refusal is not None and refusal.code in _OF_KEYS:
            self._renew()
            if self._keys.version != version:
                # They were rotated meanwhile, and no stop waits until that is found out by itself.
                refusal = self._take(digest, answer.envelope)
        if refusal is not None and refusal != self._refusal:
            log.error("the hub's stop statement is refused: %s: %s", refusal.code, refusal.message)
        self._refusal = refusal
        self._known = digest, time.monotonic() + _REFUSED_SECONDS if refusal else math.inf
        return self._heard != before

    def _take(self, digest: str, envelope: bytes) -> Trouble | None:
        """Hears the hub's statement. Returns why that was not enough, or None."""
        with self._lock:
            if digest == self._heard.digest:
                # Another thread asked at the same time, and was first.
                return None
            try:
                if self.hear(envelope):
                    return None
            except SteerError as error:
                return Trouble(error.code, error.message)
            return Trouble("STOP_KEY", "the key of the hub's newest stop does not count now, so it lets go of nothing")

    def look_anew(self) -> None:
        """The keys are others now: a statement that was refused is asked for again."""
        self._known = "", math.inf

    def hear(self, envelope: bytes) -> bool:
        """Obeys a signed statement, and keeps it. Returns whether it could let go. Raises: StopRefused."""
        with self._lock:
            may_let_go = self._hear(envelope)
            self._obey(self._heard.kills_in(self._environment))
            self._keep()
            return may_let_go

    def _hear(self, envelope: bytes) -> bool:
        statement, digest, may_let_go = believe_stop(envelope, keys=self._keys, moments=self._moments())
        heard = self._heard.hear(statement, digest) if may_let_go else self._heard.add(statement, digest)
        self._envelopes.setdefault(digest, envelope)
        if heard != self._heard:
            log.warning("heard stop %d of %s: %d kills are held", statement.sequence, statement.issuer, len(heard.held))
        self._heard = heard
        return may_let_go

    def _keep(self) -> None:
        """Puts on disk what is held, and off it what holds nothing any more. What cannot be written is obeyed all the same."""
        heard = self._heard
        besides: dict[str, list[str]] = {}
        for key, each in heard.held.items():
            if each.digest != heard.digest:
                besides.setdefault(each.digest, []).append(key)
        needed = {heard.digest, *besides} - {""}
        self._envelopes = {digest: envelope for digest, envelope in self._envelopes.items() if digest in needed}
        on_disk = self._store.digests()
        try:
            for digest in sorted(needed - on_disk):
                if digest in self._envelopes:
                    self._store.write_envelope(digest, self._envelopes[digest])
            if heard != self._kept or self._disk_trouble is not None:
                held = {digest: tuple(sorted(ids)) for digest, ids in besides.items()}
                self._store.write_state(StopState(heard.sequence, heard.digest, held))
        except NodeError as error:
            trouble = Trouble(error.code, error.message)
            if trouble != self._disk_trouble:
                log.error("a stop is obeyed but not on disk: %s: %s", error.code, error.message)
            self._disk_trouble = trouble
            return
        self._kept, self._disk_trouble = heard, None
        for digest in on_disk - needed - self._unread:
            self._store.forget_envelope(digest)

    def look(self) -> None:
        """Takes up what was dropped into the inbox, and tries the disk again if it failed before."""
        for path, envelope in self._store.read_inbox():
            try:
                if envelope is None:
                    raise StopRefused("FILE", "it is no plain file, or cannot be read")
                self.hear(envelope)
            except SteerError as error:
                if self._store.set_aside(path):
                    log.error("%s is no stop that this node believes, and is set aside: %s: %s", path, error.code, error.message)
                continue
            if self._disk_trouble is None:
                self._store.clear(path)
        if self._disk_trouble is not None:
            with self._lock:
                self._keep()

    def hand_back(self, client: StopProtocol) -> None:
        """Gives the hub the statements that brought what its newest one does not list, unless it has them on record.

        Never raises: what cannot be given back now is tried again.
        """
        for digest, envelope in self._due_back().items():
            try:
                client.hand_back_stop(envelope)
                rest = _TAKEN_SECONDS
                log.warning("the stop %s, which the hub does not list, is handed back to it", digest[:12])
            except HubError as error:
                is_unwanted = error.is_the_hubs_own and error.status in range(400, 500)
                rest = _UNWANTED_SECONDS if is_unwanted else _UNHEARD_SECONDS
                log.warning("the stop %s cannot be handed back: %s: %s", digest[:12], error.code, error.message)
            self._rests_until[digest] = time.monotonic() + rest
            if rest == _UNHEARD_SECONDS:
                return

    def _due_back(self) -> Mapping[str, bytes]:
        now = time.monotonic()
        with self._lock:
            if not self._heard.sequence:
                return {}
            brought = {each.digest for each in self._heard.surplus.values()} - self._heard.adopted
            self._rests_until = {digest: until for digest, until in self._rests_until.items() if digest in brought and until > now}
            due = sorted(brought - set(self._rests_until))[:_MAX_HANDED_BACK]
            return {digest: self._envelopes[digest] for digest in due if digest in self._envelopes}
