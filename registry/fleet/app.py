"""The fleet protocol: what serving nodes ask, answered from memory by raw ASGI. Everything else goes to Django.

A thousand nodes that poll must cost next to nothing, so neither the ORM nor DRF is on the way of a 200 or a 304.
"""

import asyncio
import json
import logging
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256

import psycopg
from asgiref.sync import sync_to_async
from django.db import DatabaseError

from registry.blobs import get_blob
from registry.fleet.answers import Ask, Receive, Refusal, Scope, Send
from registry.fleet.conditional import matches_etag, read_range, read_wait
from registry.fleet.heads import Head, Heads, NodeKey
from registry.fleet.reports import MAX_REPORT_BYTES, read_report, record_report
from registry.snapshots import trust_document
from registry.web.problems import status_of, title_of
from steernode.errors import SteerError

logger = logging.getLogger(__name__)

PREFIX = "/fleet/v1/"
ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
HEARTBEAT_SECONDS = 15.0
# Streams end after about ten minutes, so that a fleet spreads over new processes by itself.
STREAM_SECONDS = 600.0
# Long polls and streams held open at once in one process; what is more is told to come back, and plain polls go on.
MAX_HELD = 2000

_SNAPSHOT = re.compile(r"environments/([A-Za-z0-9_-]{1,50})/snapshot")
_EVENTS = re.compile(r"environments/([A-Za-z0-9_-]{1,50})/events")
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_REPORT = re.compile(r"nodes/([A-Za-z0-9_-]{1,100})/report")

Handler = Callable[[Ask, str], Awaitable[None]]


class FleetApplication:
    """The process's ASGI application. `fallback` answers whatever is not below /fleet/v1/."""

    def __init__(self, fallback: Callable[[Scope, Receive, Send], Awaitable[None]], *, max_held: int = MAX_HELD) -> None:
        self._fallback = fallback
        self._max_held = max_held
        self._held = 0
        # Reports are the one thing here that takes a database connection each; a storm of them must not take all there are.
        self._recording = asyncio.Semaphore(4)
        self._heads: Heads | None = None
        self._routes: tuple[tuple[re.Pattern[str], tuple[str, ...], Handler], ...] = (
            (_SNAPSHOT, ("GET", "HEAD"), self._send_snapshot),
            (_EVENTS, ("GET",), self._send_events),
            (_BLOB, ("GET", "HEAD"), self._send_blob),
            (_REPORT, ("POST",), self._take_report),
            (re.compile("(trust)"), ("GET", "HEAD"), self._send_trust),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(PREFIX):
            await self._answer(Ask(scope, receive, send))
        else:
            await self._fallback(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """The server's word that the process starts and ends. Django has no part in it."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._need_heads()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._heads is not None:
                    await self._heads.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _need_heads(self) -> Heads:
        """A server without lifespan starts them with its first request."""
        if self._heads is None:
            self._heads = Heads()
            await self._heads.start()
        return self._heads

    async def _answer(self, ask: Ask) -> None:
        try:
            handler, argument = self._route(ask)
            await handler(ask, argument)
        except Refusal as refusal:
            await ask.refuse(refusal)
        except SteerError as error:
            await ask.refuse(Refusal(status_of(error), error.code, error.message, title=title_of(error)))
        except (psycopg.Error, DatabaseError, TimeoutError) as error:
            logger.warning("the database did not answer %s: %s", ask.path, error)
            await self._refuse_if_possible(ask, _busy("UNAVAILABLE", "the database does not answer"))
        except ConnectionResetError:
            logger.debug("a node hung up on %s", ask.path)
        except Exception:
            logger.exception("unforeseen error at %s", ask.path)
            await self._refuse_if_possible(ask, Refusal(500, "INTERNAL", "the hub failed on this request; its log says why"))

    async def _refuse_if_possible(self, ask: Ask, refusal: Refusal) -> None:
        if not ask.has_started:
            await ask.refuse(refusal)

    def _route(self, ask: Ask) -> tuple[Handler, str]:
        for pattern, methods, handler in self._routes:
            found = pattern.fullmatch(ask.path.removeprefix(PREFIX))
            if found is None:
                continue
            if ask.method not in methods:
                raise Refusal(405, "METHOD_NOT_ALLOWED", f"{ask.method} is not allowed here", headers={"Allow": ", ".join(methods)})
            return handler, found[1]
        raise Refusal(404, "NOT_FOUND", "there is nothing at this address")

    async def _identify(self, ask: Ask) -> NodeKey:
        """The node whose token this is. Raises: Refusal 401; 503 until the nodes are known."""
        heads = await self._need_heads()
        scheme, _, secret = ask.header("authorization").partition(" ")
        key = await heads.find_node(sha256(secret.strip().encode("latin-1")).hexdigest()) if scheme.lower() == "bearer" else None
        if key is None and not heads.is_loaded:
            raise _busy("UNAVAILABLE", "the hub has not read its record yet")
        if key is None:
            headers = {"WWW-Authenticate": 'Bearer realm="steerhub fleet"'}
            raise Refusal(401, "NOT_AUTHENTICATED", "the node token is missing, unknown or withdrawn", headers=headers)
        return key

    async def _find_head(self, ask: Ask, environment: str) -> Head:
        """The head of the node's own environment. Whether another one exists is not said."""
        heads, node = await self._need_heads(), await self._identify(ask)
        if node.environment != environment:
            raise Refusal(403, "ENVIRONMENT", f"{node.name} is enrolled in {node.environment}, and pulls nothing else")
        head = heads.head_of(environment)
        if head is None:
            raise Refusal(404, "SNAPSHOT_NOT_FOUND", f"{environment} has no snapshot yet")
        return head

    @asynccontextmanager
    async def _hold(self) -> AsyncIterator[None]:
        if self._held >= self._max_held:
            raise _busy("TOO_MANY_HELD", f"{self._max_held} long polls and streams are open here; poll without waiting")
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    async def _send_snapshot(self, ask: Ask, environment: str) -> None:
        head = await self._find_head(ask, environment)
        known, wait = ask.header("if-none-match"), read_wait(ask.header("prefer"))
        if wait and known and matches_etag(known, head.etag):
            async with self._hold():
                head = await self._wait_for_news(ask, environment, head, wait)
        headers = {"ETag": head.etag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
        if wait:
            headers["Preference-Applied"] = f"wait={wait}"
        if known and matches_etag(known, head.etag):
            await ask.answer(304, headers)
        else:
            await ask.answer(200, {**headers, "Content-Type": ENVELOPE_TYPE}, head.envelope)

    async def _wait_for_news(self, ask: Ask, environment: str, head: Head, seconds: float) -> Head:
        """The head that supersedes this one, or this one when the time is up. A node that hangs up gives its place back at once."""
        news, gone = asyncio.ensure_future(head.superseded.wait()), asyncio.ensure_future(ask.hung_up())
        try:
            await asyncio.wait({news, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise ConnectionResetError("the node hung up while waiting")
        finally:
            news.cancel()
            gone.cancel()
        return (await self._need_heads()).head_of(environment) or head

    async def _send_events(self, ask: Ask, environment: str) -> None:
        """Word of every new head, and of the present one first: whoever reconnects has missed something."""
        head = await self._find_head(ask, environment)
        async with self._hold():
            await ask.start(200, {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"})
            loop = asyncio.get_running_loop()
            ends_at = loop.time() + STREAM_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311  (jitter, not a secret)
            told: Head | None = None
            while loop.time() < ends_at:
                if head is not told:
                    news = {"environment": environment, "revision": head.revision, "etag": head.etag}
                    await ask.send_part(f"event: head\nid: {head.revision}\ndata: {json.dumps(news)}\n\n".encode())
                    told = head
                else:
                    await ask.send_part(b": still here\n\n")
                head = await self._wait_for_news(ask, environment, head, HEARTBEAT_SECONDS)
            await ask.finish()

    async def _send_blob(self, ask: Ask, digest: str) -> None:
        """A vector file, for ever the same. Nothing else in the store is a node's business."""
        await self._identify(ask)
        if not await (await self._need_heads()).is_vector(digest):
            raise Refusal(404, "BLOB_MISSING", f"no vector file {digest}")
        headers = {"ETag": f'"{digest}"', "Cache-Control": "private, max-age=31536000, immutable", "Accept-Ranges": "bytes"}
        if ask.header("if-none-match") and matches_etag(ask.header("if-none-match"), digest):
            await ask.answer(304, headers)
            return
        data = await sync_to_async(get_blob, thread_sensitive=False)(digest)
        headers["Content-Type"] = "application/octet-stream"
        try:
            part = read_range(ask.header("range"), len(data))
        except ValueError as error:
            raise Refusal(416, "RANGE", f"the file has {len(data)} bytes", headers={"Content-Range": f"bytes */{len(data)}"}) from error
        if part is None:
            await ask.answer(200, headers, data)
        else:
            first, end = part
            await ask.answer(206, {**headers, "Content-Range": f"bytes {first}-{end - 1}/{len(data)}"}, data[first:end])

    async def _take_report(self, ask: Ask, name: str) -> None:
        """A node reports as itself only."""
        node = await self._identify(ask)
        if name not in (node.name, node.id):
            raise Refusal(403, "NODE", f"this token is {node.name}'s, who reports as itself only")
        body = await ask.read_body(MAX_REPORT_BYTES)
        async with self._recording:
            await record_report(node, read_report(node, body))
        await ask.answer(204, {"Cache-Control": "no-store"})

    async def _send_trust(self, ask: Ask, _: str) -> None:
        """Public keys are public. A node believes those it was given by another road."""
        await ask.answer_json(trust_document(), {"Cache-Control": "no-cache"})


def _busy(code: str, detail: str) -> Refusal:
    # Spread out, so that everybody told to wait does not come back at once.
    return Refusal(503, code, detail, headers={"Retry-After": str(random.randint(2, 10))})  # noqa: S311  (jitter)
