"""The stop's own road to a node: a thread that asks the hub for nothing else, one that looks into the inbox, and one that gives the hub
what it does not list.

None waits for another, nor for a snapshot, a vector, a running generation or a report, and none is slowed by what goes wrong with those.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from steernode.errors import HubError
from steernode.node.follower import Follower

log = logging.getLogger("steernode.node")

# How often the hub is asked when it does not hold the question back, and how often the other two look for work.
PLAIN_SECONDS = 0.9
LOOK_SECONDS = 0.5
BACK_OFF_CAP_SECONDS = 2.0
# What the hub itself refuses, or does not know, is not changed by asking every second.
REFUSED_SECONDS = 5.0
# For so long a hub that holds too many questions is asked plainly.
UNHELD_SECONDS = 30.0


class StopRoad:
    """The three threads of one node. They never keep the process alive."""

    def __init__(self, follower: Follower, *, poll_seconds: int) -> None:
        self._stops, self._client, self._poll_seconds = follower.stops, follower.client, poll_seconds
        self._stopping = threading.Event()
        self._failures = 0
        self._plain_until = 0.0

    def start(self) -> None:
        for name, step in (("stop", self.ask), ("inbox", self._look), ("back", self._hand_back)):
            threading.Thread(target=self._repeat, args=(step,), name=f"steernode-{name}", daemon=True).start()

    def stop(self) -> None:
        """A question in flight is not waited for."""
        self._stopping.set()

    def _repeat(self, step: Callable[[], float]) -> None:
        while not self._stopping.is_set():
            try:
                pause = step()
            except Exception:  # Whatever it was, a node that stops asking can no longer be stopped.
                log.exception("the stop's road failed")
                pause = LOOK_SECONDS
            self._stopping.wait(pause)

    def ask(self) -> float:
        """Asks the hub once. Returns the seconds to wait before the next."""
        began = time.monotonic()
        wait = self._poll_seconds if began >= self._plain_until else 0
        try:
            is_news = self._stops.ask(self._client, wait)
        except HubError as error:
            return self._back_off(error)
        self._failures = 0
        is_held = wait and time.monotonic() - began >= wait / 2
        return 0.0 if is_news or is_held else PLAIN_SECONDS * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    def _back_off(self, error: HubError) -> float:
        self._failures += 1
        if error.code == "TOO_MANY_HELD":
            self._plain_until = time.monotonic() + UNHELD_SECONDS
        elif self._failures == 1:
            log.warning("the hub cannot be asked for its stops: %s: %s", error.code, error.message)
        if error.is_the_hubs_own and error.status in (400, 401, 403, 404):
            limit = REFUSED_SECONDS
        else:
            limit = min(BACK_OFF_CAP_SECONDS, 0.5 * 2.0 ** min(self._failures - 1, 10))
        return limit * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, so that a fleet does not come back all at once

    def _look(self) -> float:
        self._stops.look()
        return LOOK_SECONDS

    def _hand_back(self) -> float:
        self._stops.hand_back(self._client)
        return LOOK_SECONDS
