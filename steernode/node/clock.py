"""The times a node goes by: one that nobody can set counts how long ago something was, the machine's own judges what is dated."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

# Of a node whose disk cannot have been written when it says: nobody has vouched for anything.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_LONG_AGO = 10.0**9


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


class Clocks:
    """The two of one node. `now` says how long ago something was, `wall` what the time is; they differ once somebody sets the machine's."""

    def __init__(self, now: Callable[[], datetime] | None, wall: Callable[[], datetime] | None) -> None:
        self.now = now or SteadyClock()
        self.wall = wall or now or read_wall_clock

    def moments(self) -> tuple[datetime, datetime]:
        """By either of which something that is dated may count."""
        return self.now(), self.wall()

    def ago(self, seconds: float) -> datetime:
        """A moment of the steady clock; NEVER for so long ago that there is no such moment."""
        return self.now() - timedelta(seconds=seconds) if seconds < _LONG_AGO else NEVER

    def dated(self, moment: datetime) -> datetime:
        """A moment of the steady clock as the machine's own would have told it: what another process can make something of."""
        return moment if moment == NEVER else self.wall() - (self.now() - moment)
