"""Who may use the engine: one generation at a time, and a swap between two of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class BatchGate:
    """A swap that waits goes before the next generation, so that traffic cannot hold back a kill."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._is_busy = False
        self._swaps_waiting = 0

    @contextmanager
    def batch(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._is_busy and not self._swaps_waiting)
            self._is_busy = True
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def swap(self) -> Iterator[None]:
        with self._condition:
            self._swaps_waiting += 1
            self._condition.wait_for(lambda: not self._is_busy)
            self._swaps_waiting -= 1
            self._is_busy = True
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        with self._condition:
            self._is_busy = False
            self._condition.notify_all()
