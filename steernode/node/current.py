"""What is in force on a node now: one frozen view, replaced as a whole, by whichever thread hears of something."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Any

from steernode.node.deciding import InForce, Unservable
from steernode.node.engines import Stages
from steernode.snapshot.lowering import Word, lower
from steernode.snapshot.records import Kill, Snapshot

# What the engine prepared, and the profiles that it could not.
Staged = tuple[Any, dict[tuple[str, int], Unservable]]


class Current:
    """The view of one engine. Whoever reads `view` once has something that does not change, and needs no lock.

    `swapping` is entered around each swap of the engine and of the view together. A stop replaces the view without it, because
    nothing may hold a stop back.
    """

    def __init__(self, engine: Stages) -> None:
        self.view: InForce | None = None
        self.swapping: Callable[[], AbstractContextManager[None]] = nullcontext
        self._engine = engine
        # Whoever replaces the view by another one holds it, for no longer than that.
        self._replacing = threading.Lock()
        self._stopped: tuple[Kill, ...] = ()

    def swap(self, snapshot: Snapshot, envelope: bytes, etag: str, *, accepted_at: datetime, contact_at: datetime, staged: Staged) -> None:
        """Another snapshot is in force, of which no word has been heard."""
        handle, unservable = staged
        with self.swapping():
            self._engine.swap(handle)
            with self._replacing:
                files, times = self._engine.fingerprint, (accepted_at, contact_at)
                self.view = InForce(snapshot, envelope, etag, *times, files, handle, unservable, stopped=self._stopped)

    def restage(self, staged: Staged) -> None:
        """The same snapshot, by what the engine prepared of it anew."""
        handle, unservable = staged
        with self.swapping():
            self._engine.swap(handle)
            self.note(staged=handle, unservable=unservable)

    def clear(self) -> None:
        """Nothing is in force any more, and nothing is in the engine."""
        staged = self._engine.stage([], {})
        with self.swapping():
            self._engine.swap(staged)
            with self._replacing:
                self.view = None

    def obey(self, kills: tuple[Kill, ...]) -> None:
        """What is stopped, whatever is in force and whatever comes to be."""
        with self._replacing:
            if kills != self._stopped:
                self._stopped = kills
                if self.view is not None:
                    self.view = replace(self.view, stopped=kills)

    def note(self, **changes: Any) -> None:
        """Something was heard about what is in force, if anything is."""
        with self._replacing:
            if self.view is not None:
                self.view = replace(self.view, **changes)

    def note_word(self, word: Word | None, **changes: Any) -> None:
        """The hub said something later, and what it lowers counts from now on."""
        # Found out before anybody has to wait for it: a stop may come meanwhile.
        lowered = lower(self.view.snapshot, word) if word is not None and self.view is not None else None
        self.note(word=word, lowered=lowered, **changes)
