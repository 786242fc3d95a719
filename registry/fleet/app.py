"""The fleet protocol: what serving nodes ask, answered from memory by raw ASGI. Everything else goes to Django.

A thousand nodes that poll must cost next to nothing, so neither the ORM nor DRF is on the way of a 200 or a 304.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from django.db import DatabaseError

from registry.fleet.answers import Ask, Places, Receive, Refusal, Scope, Send, busy
from registry.fleet.blobs import send_blob
from registry.fleet.chores import Chores
from registry.fleet.enrolment import take_enrolment
from registry.fleet.events import send_events
from registry.fleet.heads import Heads
from registry.fleet.reports import take_report
from registry.fleet.snapshot import send_snapshot
from registry.fleet.stop import answer_stop
from registry.fleet.trust import send_signed_trust, send_trust
from registry.web.descriptors import MOST_EACH, count_places
from registry.web.problems import status_of, title_of
from steernode.errors import SteerError

logger = logging.getLogger(__name__)

PREFIX = "/fleet/v1/"

# An address below the prefix, its methods, and who answers with what the address names.
ROUTES: tuple[tuple[re.Pattern[str], tuple[str, ...], Callable[[Ask, str], Awaitable[None]]], ...] = (
    (re.compile(r"environments/([A-Za-z0-9_-]{1,50})/snapshot"), ("GET", "HEAD"), send_snapshot),
    (re.compile(r"environments/([A-Za-z0-9_-]{1,50})/stop"), ("GET", "HEAD", "POST"), answer_stop),
    (re.compile(r"environments/([A-Za-z0-9_-]{1,50})/events"), ("GET",), send_events),
    (re.compile(r"blobs/sha256/([0-9a-f]{64})"), ("GET", "HEAD"), send_blob),
    (re.compile(r"nodes/([A-Za-z0-9_-]{1,100})/report"), ("POST",), take_report),
    (re.compile(r"(enroll)"), ("POST",), take_enrolment),
    (re.compile(r"(trust)"), ("GET", "HEAD"), send_trust),
    (re.compile(r"(trust/signed)"), ("GET", "HEAD"), send_signed_trust),
)


class FleetApplication:
    """The process's ASGI application. `fallback` answers whatever is not below /fleet/v1/."""

    # Django's types of an ASGI application are narrower than ours, hence Any.
    def __init__(
        self, fallback: Callable[[Any, Any, Any], Awaitable[None]], *, max_held: int | None = None, max_held_each: int = MOST_EACH
    ) -> None:
        self._fallback = fallback
        self._places = Places(count_places() if max_held is None else max_held, most_each=max_held_each)
        self._heads: Heads | None = None
        self._chores: Chores | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(PREFIX):
            await _answer(Ask(scope, receive, send, heads=await self._need_heads(), places=self._places))
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
                if self._heads is not None and self._chores is not None:
                    await self._chores.close()
                    await self._heads.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _need_heads(self) -> Heads:
        """A server without lifespan starts them with its first request."""
        if self._heads is None:
            self._heads = Heads()
            await self._heads.start()
            self._chores = Chores(self._heads)
            self._chores.start()
        return self._heads


async def _answer(ask: Ask) -> None:
    try:
        await _route(ask)
    except Refusal as refusal:
        await ask.refuse(refusal)
    except SteerError as error:
        await ask.refuse(Refusal(status_of(error), error.code, error.message, title=title_of(error)))
    except (psycopg.Error, DatabaseError, TimeoutError) as error:
        logger.warning("the database did not answer %s: %s", ask.path, error)
        await ask.refuse(busy("UNAVAILABLE", "the database does not answer"))
    except asyncio.CancelledError:
        # The server's word, to what is still held when its time to end is up. Nobody is left to be told of a cancellation.
        await ask.break_off(Refusal(503, "ENDING", "this process ends; ask again", headers={"Retry-After": "1", "Connection": "close"}))
    except ConnectionResetError:
        logger.debug("a node hung up on %s", ask.path)
    except Exception:
        logger.exception("unforeseen error at %s", ask.path)
        await ask.refuse(Refusal(500, "INTERNAL", "the hub failed on this request; its log says why"))


async def _route(ask: Ask) -> None:
    for pattern, methods, handler in ROUTES:
        found = pattern.fullmatch(ask.path.removeprefix(PREFIX))
        if found is None:
            continue
        if ask.method not in methods:
            raise Refusal(405, "METHOD_NOT_ALLOWED", f"{ask.method} is not allowed here", headers={"Allow": ", ".join(methods)})
        await handler(ask, found[1])
        return
    raise Refusal(404, "NOT_FOUND", "there is nothing at this address")
