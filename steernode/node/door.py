"""Who may ask a node that listens beyond its own machine: whoever has the key of the gateway in front.

The headers that say who is asking are believed, so whoever reaches the port can be any tenant. On the loopback interface that is whoever
has an account on the machine; on any other it must be the gateway alone.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from steernode.errors import NodeError

LOOPBACK = "127.0.0.1"
MIN_KEY_LENGTH = 32
# What a load balancer asks without a key: nothing but whether to send requests.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_REFUSAL = "this node answers its gateway alone: send its key as Authorization: Bearer"
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


def check_host(host: str, key: str | None) -> None:
    """Raises: NodeError HOST_UNPROTECTED, KEY_SHORT."""
    if key is not None and len(key) < MIN_KEY_LENGTH:
        raise NodeError("KEY_SHORT", f"the key of the gateway has {len(key)} characters; it needs {MIN_KEY_LENGTH}", "key")
    if key is None and not is_loopback(host):
        raise NodeError(
            "HOST_UNPROTECTED",
            f"whoever reaches {host} could ask as any tenant; give --key-file, a secret of the gateway in front, or listen on {LOOPBACK}",
            host,
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Door:
    """An application that answers those who send the key as `Authorization: Bearer`, and everybody else 401."""

    def __init__(self, app: App, key: str) -> None:
        self._app, self._expected = app, f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._is_known(scope["headers"]):
            await self._app(scope, receive, send)
            return
        body = json.dumps({"error": {"code": "KEY", "message": _REFUSAL}})
        headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body.encode()})

    def _is_known(self, headers: list[tuple[bytes, bytes]]) -> bool:
        given = [value for name, value in headers if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)
