"""Requests and answers of the raw ASGI application: headers in, bytes out, refusals as problem documents."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from registry.web.problems import PROBLEM_TYPE, problem_document

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_TITLES = {
    400: "The request is malformed.",
    401: "Which node is asking is not known.",
    403: "Not for this node.",
    404: "There is no such thing.",
    405: "Not a method of this address.",
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


class Ask:
    """One request: its headers by lower-case name, and its connection."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method, self.path, self.receive, self._send = scope["method"], scope["path"], receive, send
        self._headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            # Repeated headers are one list, except that two Authorization headers are no token at all.
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text
        self.has_started = False

    def header(self, name: str) -> str:
        return self._headers.get(name, "")

    async def start(self, status: int, headers: dict[str, str]) -> None:
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        self.has_started = True
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

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

    async def answer_json(self, document: Any, headers: dict[str, str] | None = None) -> None:
        await self.answer(200, {"Content-Type": "application/json", **(headers or {})}, json.dumps(document).encode())

    async def refuse(self, refusal: Refusal) -> None:
        document = problem_document(status=refusal.status, code=refusal.code, title=refusal.title, detail=refusal.detail)
        headers = {"Content-Type": PROBLEM_TYPE, "Cache-Control": "no-store", **refusal.headers}
        await self.answer(refusal.status, headers, json.dumps(document).encode())

    async def read_body(self, limit: int) -> bytes:
        """Raises: Refusal 413 as soon as the limit is passed."""
        body = bytearray()
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the node hung up while sending")
            body += message.get("body", b"")
            if len(body) > limit:
                raise Refusal(413, "REPORT_TOO_LARGE", f"a report has at most {limit} bytes")
            if not message.get("more_body"):
                return bytes(body)

    async def hung_up(self) -> None:
        """Returns once the other side is gone."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
