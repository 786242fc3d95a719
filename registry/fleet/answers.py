"""Requests and answers of the raw ASGI application: headers in, bytes out, refusals as problem documents."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from registry.fleet.conditional import matches_etag
from registry.fleet.heads import Head, Heads, NodeKey, Stop
from registry.web.problems import PROBLEM_TYPE, problem_document

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
# What whoever comes with a token is told that is given nothing any more.
_ENDED = {
    "NODE_WITHDRAWN": "this node is withdrawn; it is given nothing more, and steers nobody",
    "TOKEN_REPLACED": "this node has another token now; whoever comes with this one is given nothing more, and steers nobody",
}
# How long a body may take; a connection that sends nothing is not kept.
BODY_SECONDS = 20.0
_TITLES = {
    400: "The request is malformed.",
    401: "Which node is asking is not known.",
    403: "Not for this node.",
    404: "There is no such thing.",
    405: "Not a method of this address.",
    408: "The request did not come in time.",
    413: "More was sent than is read.",
    416: "No such bytes.",
    503: "The hub cannot answer now.",
}


class Refusal(Exception):
    """An answer other than the one asked for. Raised anywhere below the application, sent by it."""

    def __init__(self, status: int, code: str, detail: str, *, title: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.title = title or _TITLES.get(status, "Refused.")
        self.headers = headers or {}


def busy(code: str, detail: str) -> Refusal:
    # Spread out, so that everybody told to wait does not come back at once.
    return Refusal(503, code, detail, headers={"Retry-After": str(random.randint(2, 10))})  # noqa: S311  (jitter)


class Places:
    """Long polls and streams held open at once in one process, and by one node; what is more is sent away, and plain polls go on."""

    def __init__(self, most: int, *, most_each: int) -> None:
        self._most, self._most_each = most, most_each
        self._taken: Counter[str] = Counter()

    @contextmanager
    def hold(self, node: NodeKey) -> Iterator[None]:
        """Raises: Refusal 503 when none is free. Its connection is closed, so that nobody holds more of them than of places."""
        if self._taken[node.id] >= self._most_each:
            raise _no_place(f"{node.name} has {self._most_each} long polls and streams open here; poll without waiting")
        if self._taken.total() >= self._most:
            raise _no_place(f"{self._most} long polls and streams are open here; poll without waiting")
        self._taken[node.id] += 1
        try:
            yield
        finally:
            self._taken[node.id] -= 1
            # Only those who hold something are counted, however many come and go.
            self._taken += Counter()


def _no_place(detail: str) -> Refusal:
    refusal = busy("TOO_MANY_HELD", detail)
    refusal.headers["Connection"] = "close"
    return refusal


class Ask:
    """One request: its headers by lower-case name, its connection, and what it is answered from."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, heads: Heads, places: Places) -> None:
        self.heads, self.places = heads, places
        self.method, self.path, self._receive, self._send = scope["method"], scope["path"], receive, send
        self._headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            # Repeated headers are one list, except that two Authorization headers are no token at all.
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text
        self._has_started = False

    def header(self, name: str) -> str:
        return self._headers.get(name, "")

    async def identify(self) -> NodeKey:
        """The node whose token this is. Raises: Refusal 401; psycopg.Error, TimeoutError."""
        scheme, _, secret = self.header("authorization").partition(" ")
        digest = sha256(secret.strip().encode("latin-1")).hexdigest()
        key = await self.heads.find_node(digest) if scheme.lower() == "bearer" else None
        if key is None:
            headers = {"WWW-Authenticate": 'Bearer realm="steerhub fleet"'}
            if code := self.heads.why_ended(digest):
                raise Refusal(401, code, _ENDED[code], headers=headers)
            raise Refusal(401, "NOT_AUTHENTICATED", "the node token is missing or unknown", headers=headers)
        return key

    async def identify_in(self, environment: str) -> NodeKey:
        """The node, which pulls for its own environment only. Whether another one exists is not said. Raises: Refusal 401, 403, 503."""
        node = await self.identify()
        if node.environment != environment:
            raise Refusal(403, "ENVIRONMENT", f"{node.name} is enrolled in {node.environment}, and pulls nothing else")
        return node

    def find_head(self, environment: str) -> Head:
        """Raises: Refusal 404."""
        head = self.heads.head_of(environment)
        if head is None:
            raise Refusal(404, "SNAPSHOT_NOT_FOUND", f"{environment} has no snapshot yet")
        return head

    def need_recent_record(self) -> None:
        """Before any word that nothing is new. Raises: Refusal 503."""
        if not self.heads.may_vouch:
            raise busy("RECORD_NOT_READ", "the hub has not read its record for some seconds, and cannot say that nothing is new")

    async def wait_for_news(self, node: NodeKey, *news: Head | Stop, seconds: float) -> None:
        """Until one of these is superseded, nobody knows any more whether it is, the node is given nothing more, or the time is up.

        A node that hangs up gives its place back at once. Raises: Refusal 401 for a node that was withdrawn meanwhile.
        """
        gone = asyncio.ensure_future(self._hung_up())
        events = (*[each.superseded for each in news], self.heads.unread, node.ended)
        waiting = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait({gone, *waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise ConnectionResetError("the node hung up while waiting")
        finally:
            for each in (gone, *waiting):
                each.cancel()
        await self.identify()

    async def start(self, status: int, headers: dict[str, str]) -> None:
        headers = {**headers, **self._say_how_things_stand()}
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        self._has_started = True
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    def _say_how_things_stand(self) -> dict[str, str]:
        """On every answer, whatever it is: which stop statement is the newest, and how old the hub's knowledge is."""
        if not self.heads.is_loaded:
            return {}
        stop = self.heads.stop
        named = {"Stop-Sequence": str(stop.sequence), "Stop-Digest": stop.digest} if stop.sequence else {}
        return {**named, "Record-Age": f"{self.heads.record_age:.3f}"}

    async def send_part(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        """A whole answer. HEAD gets the headers of GET."""
        if status not in (204, 304):
            headers = {**headers, "Content-Length": str(len(body))}
        await self.start(status, headers)
        await self._send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})

    def knows(self, etag: str) -> bool:
        """Whether the request names this tag as what it has."""
        known = self.header("if-none-match")
        return bool(known) and matches_etag(known, etag)

    async def answer_poll(self, etag: str, envelope: bytes, wait: int) -> None:
        """Signed bytes, or word that they are still those that the poll named. Raises: Refusal 503, rather than say that unread."""
        headers = {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
        if wait:
            headers["Preference-Applied"] = f"wait={wait}"
        if self.knows(etag):
            self.need_recent_record()
            await self.answer(304, headers)
        else:
            await self.answer(200, {**headers, "Content-Type": ENVELOPE_TYPE}, envelope)

    async def answer_json(self, document: Any, headers: dict[str, str] | None = None) -> None:
        await self.answer(200, {"Content-Type": "application/json", **(headers or {})}, json.dumps(document).encode())

    async def refuse(self, refusal: Refusal) -> None:
        """Nothing, once an answer has begun."""
        if self._has_started:
            return
        document = problem_document(status=refusal.status, code=refusal.code, title=refusal.title, detail=refusal.detail)
        headers = {"Content-Type": PROBLEM_TYPE, "Cache-Control": "no-store", **refusal.headers}
        await self.answer(refusal.status, headers, json.dumps(document).encode())

    async def break_off(self, refusal: Refusal) -> None:
        """A refusal, or the end of the stream that has begun."""
        if self._has_started:
            await self.finish()
        else:
            await self.refuse(refusal)

    async def read_body(self, limit: int, *, code: str = "REPORT_TOO_LARGE") -> bytes:
        """Raises: Refusal 413 as soon as the limit is passed, 408 for a body that does not come."""
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionResetError("the node hung up while sending")
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise Refusal(413, code, f"at most {limit} bytes are read here")
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError as error:
            late = f"the body did not come within {BODY_SECONDS:.0f} s"
            raise Refusal(408, "BODY_TIMEOUT", late, headers={"Connection": "close"}) from error

    async def _hung_up(self) -> None:
        """Returns once the other side is gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
