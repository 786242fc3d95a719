"""What the fleet application holds in memory: the head of every environment and the keys of its nodes.

A look at the database every second is what keeps it right. NOTIFY only makes the next look come sooner, because
notifications are lost whenever a connection is, without anybody being told.
"""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
from asgiref.sync import sync_to_async
from django.db import connections
from psycopg_pool import AsyncConnectionPool

from registry.services.tenants import reissue_before_expiry
from registry.snapshots import read_envelope
from registry.snapshots.publish import CHANNEL

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
# A look that takes longer is on a dead connection.
LOOK_TIMEOUT_SECONDS = 5.0
# An unknown token may be of a node enrolled a moment ago, so it is looked for; however many guess, this seldom.
SECOND_LOOK_SECONDS = 0.25
# A re-issue that fails, say for want of the signing key, is not tried again with every tick.
REISSUE_PAUSE_SECONDS = 10.0
KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}

_FROM = "FROM registry_environment e JOIN registry_snapshot s ON s.environment_id = e.id AND s.revision = e.head_revision"
# Tags are compared, not revisions: after a restore from backup the same revision may say something else.
_HEADS = f"SELECT e.name, s.etag {_FROM}"
_SNAPSHOTS = f"SELECT e.name, s.revision, s.etag, s.payload_zlib, s.signatures, s.issued_at, s.expires_at {_FROM} WHERE e.name = ANY(%s)"
_NODES = """
SELECT n.token_sha256, n.id::text, n.name, e.name
FROM registry_servingnode n JOIN registry_environment e ON e.id = n.environment_id WHERE n.is_active"""
_VECTOR = "SELECT 1 FROM registry_steeringvector WHERE digest = %s"


@dataclass(frozen=True, slots=True)
class Head:
    """The newest snapshot of an environment, as stored. `superseded` is set when a newer one is here."""

    revision: int
    etag: str
    envelope: bytes
    reissue_at: datetime
    superseded: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


@dataclass(frozen=True, slots=True)
class NodeKey:
    """Whom a token belongs to."""

    id: str
    name: str
    environment: str


class Heads:
    """Memory that follows the database. All methods run in the event loop that called `start`."""

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}
        self._nodes: dict[str, NodeKey] = {}
        self.is_loaded = False
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()
        self._looking_again = asyncio.Lock()
        self._looked_at = 0.0
        self._reissue_after: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._pool = AsyncConnectionPool(kwargs=_parameters(), min_size=1, max_size=4, open=False, timeout=LOOK_TIMEOUT_SECONDS)

    async def start(self) -> None:
        await self._pool.open()
        self._tasks = [asyncio.create_task(self._tick()), asyncio.create_task(self._listen())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.close()

    def head_of(self, environment: str) -> Head | None:
        return self._heads.get(environment)

    async def find_node(self, token_sha256: str) -> NodeKey | None:
        if token_sha256 not in self._nodes:
            with suppress(psycopg.Error, TimeoutError):
                await self._look_again(time.monotonic())
        return self._nodes.get(token_sha256)

    async def _look_again(self, asked_at: float) -> None:
        """Make sure of a look that began after `asked_at`. Everybody who waits for one shares it."""
        async with self._looking_again:
            if self._looked_at < asked_at:
                await asyncio.sleep(self._looked_at + SECOND_LOOK_SECONDS - asked_at)
                await self._look()

    async def is_vector(self, digest: str) -> bool:
        async with asyncio.timeout(LOOK_TIMEOUT_SECONDS), self._pool.connection() as connection:
            return await (await connection.execute(_VECTOR, [digest])).fetchone() is not None

    async def _tick(self) -> None:
        is_silent = False
        while True:
            try:
                await self._look()
                await self._reissue()
                if is_silent:
                    logger.info("the database answers again")
                is_silent = False
            except Exception as error:  # Whatever it was, the next look must come: this loop is what nodes depend on.
                if not is_silent:
                    logger.warning("heads were not read, nodes are served the last known ones: %s", error)
                is_silent = True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), TICK_SECONDS)
            self._wake.clear()

    async def _look(self) -> None:
        async with self._looking, asyncio.timeout(LOOK_TIMEOUT_SECONDS), self._pool.connection() as connection:
            began_at = time.monotonic()
            tags: dict[str, str] = dict(await (await connection.execute(_HEADS)).fetchall())
            stale = [name for name, etag in tags.items() if name not in self._heads or self._heads[name].etag != etag]
            snapshots = await (await connection.execute(_SNAPSHOTS, [stale])).fetchall() if stale else []
            nodes = await (await connection.execute(_NODES)).fetchall()
            self._nodes = {token: NodeKey(node, name, environment) for token, node, name, environment in nodes}
            for name, revision, etag, payload, signatures, issued_at, expires_at in snapshots:
                # A megabyte takes some milliseconds, in which the loop has others to answer.
                envelope = await asyncio.to_thread(read_envelope, payload, signatures)
                self._replace(name, Head(revision, etag, envelope, issued_at + (expires_at - issued_at) / 2))
            for name in set(self._heads) - set(tags):
                self._heads.pop(name).superseded.set()
            self.is_loaded, self._looked_at = True, began_at

    def _replace(self, environment: str, head: Head) -> None:
        before, self._heads[environment] = self._heads.get(environment), head
        if before is not None:
            before.superseded.set()

    async def _reissue(self) -> None:
        """Have snapshots past half of their life signed anew. Several processes may ask: the row lock lets one of them do it."""
        now = datetime.now(UTC)
        for name, head in list(self._heads.items()):
            if head.reissue_at <= now and time.monotonic() >= self._reissue_after.get(name, 0.0):
                self._reissue_after[name] = time.monotonic() + REISSUE_PAUSE_SECONDS
                await sync_to_async(_reissue_and_close, thread_sensitive=False)(name)
                self._wake.set()

    async def _listen(self) -> None:
        """A connection of its own, because one that waits for notifications can do nothing else."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(**_parameters()) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    # What was announced while nobody listened is found by this look.
                    self._wake.set()
                    async for _ in connection.notifies():
                        self._wake.set()
            except Exception as error:  # A listener that dies is only slower; one that takes the process along is worse.
                logger.warning("notifications are not heard, the tick goes on: %s", error)
            await asyncio.sleep(TICK_SECONDS)


def _parameters() -> dict[str, Any]:
    """Django's own connection parameters, without what is Django's: same database, no ORM."""
    parameters = connections["default"].get_connection_params()
    for name in ("cursor_factory", "context"):
        parameters.pop(name, None)
    return {**KEEPALIVES, **parameters, "autocommit": True, "application_name": "steerhub-fleet"}


def _reissue_and_close(environment: str) -> None:
    try:
        reissue_before_expiry(environment)
    finally:
        connections.close_all()
