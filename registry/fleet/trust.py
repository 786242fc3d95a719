"""`GET trust` and `GET trust/signed`: the keys that snapshots and stops are signed by, in the clear and as nodes follow them."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from registry.fleet.answers import ENVELOPE_TYPE, Ask
from registry.fleet.threads import DaemonThreads
from registry.snapshots import sign_trust, trust_document

# Every node asks with each heartbeat; so old may the answer be.
HELD_SECONDS = 2.0
# Public keys are public, so anybody may ask: one at a time, so that asking takes no connection from anybody else.
_READING = DaemonThreads(1, name="trust")
_held: list[tuple[float, int, bytes]] = []


async def send_trust(ask: Ask, _: str) -> None:
    """For people and for a first start. A node believes those it was given by another road."""
    await ask.answer_json(await _read(trust_document), {"Cache-Control": "no-cache"})


async def send_signed_trust(ask: Ask, _: str) -> None:
    """For nodes, which take it up if a key that they trust already signed it."""
    if not _held or time.monotonic() - _held[0][0] >= HELD_SECONDS:
        version, envelope = await _read(sign_trust)
        _held[:] = [(time.monotonic(), version, envelope)]
    _at, version, envelope = _held[0]
    etag = f'"t{version}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if ask.knows(etag):
        await ask.answer(304, headers)
    else:
        await ask.answer(200, {**headers, "Content-Type": ENVELOPE_TYPE}, envelope)


async def _read(document: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_READING, document)
