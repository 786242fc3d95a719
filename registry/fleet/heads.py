"""What the fleet application holds in memory: the newest stop statement, the head of every environment and the keys of its nodes.

A look at the database every second is what keeps it right. NOTIFY only makes the next look come sooner, because
notifications are lost whenever a connection is, without anybody being told.
"""

import asyncio
import logging
import math
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from django.db import connections
from psycopg_pool import AsyncConnectionPool

from registry.snapshots import read_envelope, read_stop_envelope
from registry.snapshots.publish import CHANNEL
from steernode.words import ENDED_CODES

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
# A look that takes longer is on a dead connection.
LOOK_TIMEOUT_SECONDS = 5.0
# An unknown token may be of a node enrolled a moment ago, so it is looked for; however many guess, this seldom.
SECOND_LOOK_SECONDS = 0.25
# Whoever has not read its record for longer does not say that nothing is new.
VOUCHES_FOR_SECONDS = 5.0
# Whoever waits for news is told so this much later at most.
DOUBT_SECONDS = 0.5
KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}

_FROM = "FROM registry_environment e JOIN registry_snapshot s ON s.environment_id = e.id AND s.revision = e.head_revision"
# Tags are compared, not revisions: after a restore from backup the same revision may say something else.
_HEADS = f"SELECT e.name, s.etag {_FROM}"
_SNAPSHOTS = f"SELECT e.name, s.revision, s.etag, s.payload_zlib, s.signatures, s.issued_at, s.expires_at {_FROM} WHERE e.name = ANY(%s)"
_STOP = "SELECT digest FROM registry_stopstatement ORDER BY sequence DESC LIMIT 1"
_STATEMENT = "SELECT sequence, digest, payload_zlib, signatures FROM registry_stopstatement WHERE digest = %s"
_NODES = """
SELECT n.token_sha256, n.id::text, n.name, e.name, n.is_active, n.past_tokens
FROM registry_servingnode n JOIN registry_environment e ON e.id = n.environment_id WHERE n.token_sha256 <> ''"""
# Of a steering vector or of a probe.
_VECTOR = "SELECT 1 FROM registry_steeringvector WHERE digest = %(digest)s UNION SELECT 1 FROM registry_probe WHERE digest = %(digest)s"


@dataclass(frozen=True, slots=True)
class Head:
    """The newest snapshot of an environment, as stored. `superseded` is set when a newer one is here."""

    revision: int
    etag: str
    envelope: bytes
    reissue_at: datetime
    superseded: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


@dataclass(frozen=True, slots=True)
class Stop:
    """The newest stop statement, as stored. Before there is any, one without bytes. `superseded` is set when another is here."""

    sequence: int = 0
    digest: str = ""
    envelope: bytes = b""
    superseded: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


@dataclass(frozen=True, slots=True)
class NodeKey:
    """Whom a token belongs to. `ended` is set when it no longer does."""

    id: str
    name: str
    environment: str
    ended: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


class Heads:
    """Memory that follows the database. All methods run in the event loop that called `start`."""

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}
        self.stop = Stop()
        # Set while the record has not been read for too long; whoever waits for news waits for that too.
        self.unread = asyncio.Event()
        self._nodes: dict[str, NodeKey] = {}
        # Tokens that are given nothing any more, and the code that says why.
        self._ended: dict[str, str] = {}
        self.is_loaded = False
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()
        self._looking_again = asyncio.Lock()
        self._looked_at = -math.inf
        self._tasks: list[asyncio.Task[None]] = []
        self._pool = AsyncConnectionPool(kwargs=_parameters(), min_size=1, max_size=4, open=False, timeout=LOOK_TIMEOUT_SECONDS)

    async def start(self) -> None:
        await self._pool.open()
        self._tasks = [asyncio.create_task(loop) for loop in (self._tick(), self._doubt(), self._listen())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.close()

    def head_of(self, environment: str) -> Head | None:
        return self._heads.get(environment)

    def all_heads(self) -> list[tuple[str, Head]]:
        return list(self._heads.items())

    @property
    def record_age(self) -> float:
        """Seconds since the record was last read, by a clock that nobody sets. Infinite before it was."""
        return time.monotonic() - self._looked_at

    @property
    def may_vouch(self) -> bool:
        """Whether "nothing is new" would be knowledge."""
        return self.record_age <= VOUCHES_FOR_SECONDS

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    def why_ended(self, token_sha256: str) -> str | None:
        """Of a token that was a node's, and may be told so: one of `ENDED_CODES`."""
        return self._ended.get(token_sha256)

    async def find_node(self, token_sha256: str) -> NodeKey | None:
        """Raises: psycopg.Error, TimeoutError when the record would have to be read for it and cannot be."""
        is_known = token_sha256 in self._nodes or token_sha256 in self._ended
        if not is_known or not self.is_loaded:
            # Another process may have given it a moment ago; and in the middle of the first look there are nodes but no snapshots yet.
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
            return await (await connection.execute(_VECTOR, {"digest": digest})).fetchone() is not None

    async def _tick(self) -> None:
        is_silent = False
        while True:
            try:
                await self._look()
                if is_silent:
                    logger.info("the database answers again")
                is_silent = False
            except Exception as error:  # Whatever it was, the next look must come: this loop is what nodes depend on.
                if not is_silent:
                    logger.warning("the record was not read, nodes are told so: %s", error)
                is_silent = True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), TICK_SECONDS)
            self._wake.clear()

    async def _doubt(self) -> None:
        """Not left to the tick: where packets are lost, a look takes longer to give up than the record stays good."""
        while True:
            await asyncio.sleep(DOUBT_SECONDS)
            if not self.may_vouch:
                self.unread.set()

    async def _look(self) -> None:
        async with self._looking, asyncio.timeout(LOOK_TIMEOUT_SECONDS), self._pool.connection() as connection:
            began_at = time.monotonic()
            # First, so that nothing that is wrong with a snapshot keeps a stop back.
            await self._look_for_stop(connection)
            tags: dict[str, str] = dict(await (await connection.execute(_HEADS)).fetchall())
            stale = [name for name, etag in tags.items() if name not in self._heads or self._heads[name].etag != etag]
            snapshots = await (await connection.execute(_SNAPSHOTS, [stale])).fetchall() if stale else []
            nodes = await (await connection.execute(_NODES)).fetchall()
            withdrawn, replaced = ENDED_CODES
            self._ended = {token: replaced for *_key, past in nodes for token in past}
            self._ended |= {token: withdrawn for token, *_key, is_active, _past in nodes if not is_active}
            self._replace_nodes({token: NodeKey(*key) for token, *key, is_active, _past in nodes if is_active})
            for name, revision, etag, payload, signatures, issued_at, expires_at in snapshots:
                # A megabyte takes some milliseconds, in which the loop has others to answer.
                envelope = await asyncio.to_thread(read_envelope, payload, signatures)
                self._replace(name, Head(revision, etag, envelope, issued_at + (expires_at - issued_at) / 2))
            for name in set(self._heads) - set(tags):
                self._heads.pop(name).superseded.set()
            self.is_loaded, self._looked_at = True, began_at
            if self.unread.is_set():
                self.unread = asyncio.Event()

    async def _look_for_stop(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Digests are compared, not sequences: a registry that was restored has an earlier one."""
        newest = await (await connection.execute(_STOP)).fetchone()
        if (newest[0] if newest else "") == self.stop.digest:
            return
        row = await (await connection.execute(_STATEMENT, newest)).fetchone() if newest else None
        stop = Stop()
        if row is not None:
            sequence, digest, payload, signatures = row
            stop = Stop(sequence, digest, await asyncio.to_thread(read_stop_envelope, payload, signatures))
        before, self.stop = self.stop, stop
        before.superseded.set()

    def _replace(self, environment: str, head: Head) -> None:
        before, self._heads[environment] = self._heads.get(environment), head
        if before is not None:
            before.superseded.set()

    def _replace_nodes(self, nodes: dict[str, NodeKey]) -> None:
        before, self._nodes = self._nodes, nodes
        for token, key in before.items():
            if nodes.get(token) == key:
                nodes[token] = key
            else:
                key.ended.set()

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
