"""Keeps a node in step with its hub: long polls, back-off, reports and heartbeats, in one thread. Stops have a road of their own."""

from __future__ import annotations

import logging
import random
import threading
import time

from steernode.errors import HubError
from steernode.node.follower import Follower, PollOutcome
from steernode.node.report import Answers, describe_failure, describe_report
from steernode.node.stoproad import StopRoad

log = logging.getLogger("steernode.node")

POLL_SECONDS = 20
HEARTBEAT_SECONDS = 30.0
# Short, because what lowers may be waiting behind the failure.
BACK_OFF_CAP_SECONDS = 15.0
# Asking again with a token the hub does not know helps nobody.
UNAUTHORISED_SECONDS = 60.0
# What a hub that does not hold long polls is asked at.
PLAIN_POLL_SECONDS = 5.0
_UNAUTHORISED = (400, 401, 403)


class NodeRunner:
    """The loop of one node. `run` returns when stopped; `start` runs it in a thread that never keeps the process alive.

    `answering` is whatever answers the node's requests, for the reports to say how many there were.
    """

    def __init__(
        self,
        follower: Follower,
        answering: Answers | None = None,
        *,
        poll_seconds: int = POLL_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._follower, self._answering = follower, answering
        self._poll_seconds, self._heartbeat_seconds = poll_seconds, heartbeat_seconds
        self._road = StopRoad(follower, poll_seconds=poll_seconds)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="steernode-node", daemon=True)
        self._failures = 0
        self._reports = 0
        self._sequence = 0
        self._not_delivered = ""
        self._reported_at = 0.0
        self._last_said: tuple[object, ...] | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, wait_seconds: float = 2.0) -> None:
        """A long poll in flight is not waited for: the process may end under it."""
        self._stopping.set()
        self._road.stop()
        if self._thread.is_alive():
            self._thread.join(wait_seconds)

    def run(self) -> None:
        self._road.start()
        while not self._stopping.is_set():
            try:
                pause = self._poll()
                self._report()
            except Exception:  # Whatever it was, a node that stops polling can no longer be killed.
                log.exception("the node's loop failed")
                pause = self._back_off(None)
            self._stopping.wait(pause)

    def _poll(self) -> float:
        """One poll. Returns the seconds to wait before the next."""
        until_heartbeat = self._heartbeat_seconds - (time.monotonic() - self._reported_at)
        # A poll that is held for longer than a profile waits for word of the hub would make it stale, though all is well.
        in_force = self._follower.in_force
        patience = in_force.patience_seconds / 2 if in_force is not None else self._poll_seconds
        wait = int(max(1, min(self._poll_seconds, until_heartbeat, patience))) if self._poll_seconds else 0
        began = time.monotonic()
        try:
            outcome = self._follower.poll(wait)
        except HubError as error:
            return self._back_off(error)
        if outcome is PollOutcome.REFUSED:
            refusal = self._follower.refusal
            if refusal is not None and refusal.code == "SIGNATURE" and self._follower.follow_trust():
                return 0.0
            return self._back_off(None)
        self._failures = 0
        if outcome is PollOutcome.APPLIED:
            return 0.0
        held = time.monotonic() - began
        return 0.0 if held >= wait / 2 and wait else PLAIN_POLL_SECONDS * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    def _back_off(self, error: HubError | None) -> float:
        self._failures += 1
        self._follower.counters["polls_failed"] += 1
        if error is not None and self._failures == 1:
            stays = "what is in force stays" if self._follower.in_force is not None else "nobody is steered"
            log.warning("the hub cannot be asked, %s: %s: %s", stays, error.code, error.message)
        limit = min(BACK_OFF_CAP_SECONDS, 2.0 ** min(self._failures - 1, 10))
        pause = limit * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, so that a fleet does not come back all at once
        if error is None:
            return pause
        # Only the hub's own word is worth a long pause: something on the way to it may say anything, and be gone in a second.
        if not error.is_the_hubs_own:
            return max(pause, min(error.retry_after_seconds or 0.0, BACK_OFF_CAP_SECONDS))
        if error.status in _UNAUTHORISED:
            return max(pause, UNAUTHORISED_SECONDS)
        return max(pause, min(error.retry_after_seconds or 0.0, 300.0))

    def _report(self) -> None:
        """Says what changed at once, and that the node is alive every heartbeat."""
        try:
            report = describe_report(self._follower, self._sequence + 1, self._answering)
        except Exception as error:  # A node that goes silent looks dead: what it cannot say whole, it says that it cannot say.
            log.exception("the report cannot be written whole")
            report = describe_failure(self._follower, self._sequence + 1, error)
        said = (report["result"], report["code"], report["revision"], self._follower.stop_report)
        is_due = time.monotonic() - self._reported_at >= self._heartbeat_seconds or self._reports == 0
        if said == self._last_said and not is_due:
            return
        # A number is for one report: what was sent may have arrived, though the answer did not.
        self._sequence += 1
        try:
            self._follower.client.report(report)
        except HubError as error:
            level = logging.WARNING if error.code not in (self._not_delivered, "HUB_UNREACHABLE") else logging.DEBUG
            log.log(level, "a report was not delivered: %s: %s", error.code, error.message)
            self._not_delivered = error.code
            if error.code == "REPORT_LATE":
                # Its number is the highest there is, so it is the boot that is taken to be over: a report of the process before this one
                # was on the way for so long that it came after one of this. Under that name nothing would be heard any more.
                self._follower.begin_boot()
            return
        self._not_delivered = ""
        self._reports += 1
        self._reported_at, self._last_said = time.monotonic(), said
        self._follower.follow_trust()
        self._follower.remember_contact()
