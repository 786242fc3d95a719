"""The times a node goes by: one that nobody can set counts how long ago something was, the machine's own judges what is dated."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class SteadyClock:
    """UTC as the machine told it when the process started, counted on from there by a clock that nobody can set.

    So a clock that is set while the process lives, forward or back, makes nothing older and nothing younger.
    """

    def __init__(self) -> None:
        self._wall, self._began = read_wall_clock(), _seconds_up()

    def __call__(self) -> datetime:
        return self._wall + timedelta(seconds=_seconds_up() - self._began)


def read_wall_clock() -> datetime:
    return datetime.now(UTC)


def _seconds_up() -> float:
    """Of the machine. Where the system tells, what it slept through counts: nobody vouched for anything then."""
    boot_clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_clock is None else time.clock_gettime(boot_clock)
