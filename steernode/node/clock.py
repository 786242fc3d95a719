"""The time a node judges snapshots by."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class SteadyClock:
    """UTC that never runs backwards while the process lives: turning the clock back must not prolong a snapshot."""

    def __init__(self) -> None:
        self._wall, self._monotonic = datetime.now(UTC), time.monotonic()

    def __call__(self) -> datetime:
        return max(datetime.now(UTC), self._wall + timedelta(seconds=time.monotonic() - self._monotonic))
