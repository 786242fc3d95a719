"""What falls due by the clock, done by every web process beside its looks: it waits for no worker, and no look waits for it.

Several processes may do the same at once. The services lock, look again and let one of them.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime

from registry.fleet.heads import Heads
from registry.fleet.threads import DaemonThreads
from registry.services.deadlines import DEADLINES
from registry.services.tenants import reissue_before_expiry

logger = logging.getLogger(__name__)

CHORES_SECONDS = 1.0
# What fails, say for want of the signing key, is not tried again every second.
PAUSE_SECONDS = 10.0
# What is under way when the process ends is waited for, unless it hangs.
CLOSES_WITHIN_SECONDS = 2.0


class Chores:
    """The tasks of one process, each in a loop of its own: one that hangs on a lock holds up no other. `start` is called in a loop."""

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._threads = DaemonThreads(len(DEADLINES) + 1, name="chores")
        self._tasks: list[asyncio.Task[None]] = []
        self._doing: set[Future[bool]] = set()

    def start(self) -> None:
        chores: list[Callable[[], object]] = [*DEADLINES, self._reissue]
        self._tasks = [asyncio.create_task(self._repeat(chore)) for chore in chores]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown()
        if self._doing:
            await asyncio.wait([asyncio.wrap_future(each) for each in list(self._doing)], timeout=CLOSES_WITHIN_SECONDS)

    async def _repeat(self, chore: Callable[[], object]) -> None:
        while True:
            try:
                if await asyncio.wrap_future(self._do(chore)):
                    self._heads.wake()
                pause = CHORES_SECONDS
            except Exception as error:  # Whatever it was, it is tried again: nobody else may be there to do it.
                logger.warning("%s failed, and is tried again: %s", chore.__name__, error)
                pause = PAUSE_SECONDS
            await asyncio.sleep(pause)

    def _do(self, chore: Callable[[], object]) -> Future[bool]:
        doing = self._threads.submit(_do, chore)
        self._doing.add(doing)
        doing.add_done_callback(self._doing.discard)
        return doing

    def _reissue(self) -> bool:
        """Have snapshots past half of their life signed anew."""
        now = datetime.now(UTC)
        due = [name for name, head in self._heads.all_heads() if head.reissue_at <= now]
        return sum(reissue_before_expiry(name) is not None for name in due) > 0


def _do(chore: Callable[[], object]) -> bool:
    return bool(chore())
