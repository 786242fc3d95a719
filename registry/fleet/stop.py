"""`GET environments/NAME/stop`: the newest stop statement. `POST`: one that a node obeys and the hub does not list."""

import asyncio

from registry.fleet.answers import Ask, Refusal, busy
from registry.fleet.conditional import read_wait
from registry.fleet.heads import NodeKey
from registry.fleet.threads import DaemonThreads
from registry.models import ServingNode
from registry.services.stops import adopt_stop
from registry.web.alarms import Alarm
from steernode.stop.document import MAX_ENVELOPE_BYTES

# One at a time: they may be large, and reading one takes the interpreter from everybody else.
_ADOPTING = DaemonThreads(1, name="stops")
HANDED_BACK_EVERY_SECONDS = 1.0
_handed_back = Alarm(every_seconds=HANDED_BACK_EVERY_SECONDS)


async def answer_stop(ask: Ask, environment: str) -> None:
    node = await ask.identify_in(environment)
    if ask.method == "POST":
        await _take_stop(ask, node)
    else:
        await _send_stop(ask, node)


async def _send_stop(ask: Ask, node: NodeKey) -> None:
    """Exactly as signed, or word that it is still the one named, held back on request."""
    stop = ask.heads.stop
    wait = read_wait(ask.header("prefer"))
    if wait and ask.knows(stop.digest):
        ask.need_recent_record()
        with ask.places.hold(node):
            await ask.wait_for_news(node, stop, seconds=wait)
        stop = ask.heads.stop
    if not stop.sequence:
        raise Refusal(404, "STOP_NOT_FOUND", "no stop statement was issued yet, and nothing is stopped")
    await ask.answer_poll(f'"{stop.digest}"', stop.envelope, wait)


async def _take_stop(ask: Ask, node: NodeKey) -> None:
    """Raises: Refusal 413, 503; StopRefused."""
    if _handed_back.ring(node.id) is None:
        raise busy("STOP_TOO_OFTEN", f"{node.name} handed back a stop a moment ago")
    envelope = await ask.read_body(MAX_ENVELOPE_BYTES, code="STOP_TOO_LARGE")
    if await asyncio.get_running_loop().run_in_executor(_ADOPTING, _adopt, node, envelope):
        ask.heads.wake()
    await ask.answer(204, {"Cache-Control": "no-store"})


def _adopt(node: NodeKey, envelope: bytes) -> bool:
    return adopt_stop(envelope, node=ServingNode(pk=node.id, name=node.name)) is not None
