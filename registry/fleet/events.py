"""`GET environments/NAME/events`: a stream of server-sent events that says when there is a new head, and a new stop."""

import asyncio
import json
import random

from registry.fleet.answers import Ask, Refusal
from registry.fleet.heads import Head, Stop

HEARTBEAT_SECONDS = 15.0
# Streams end after about ten minutes, so that a fleet spreads over new processes by itself.
STREAM_SECONDS = 600.0


async def send_events(ask: Ask, environment: str) -> None:
    """Word of every new head and stop, and of the present ones first: whoever reconnects has missed something.

    The stream ends when the record is not read any more: a heartbeat would say that nothing is new.
    """
    node = await ask.identify_in(environment)
    head: Head = ask.find_head(environment)
    ask.need_recent_record()
    with ask.places.hold(node):
        await ask.start(200, {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + STREAM_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311  (jitter, not a secret)
        told: tuple[Head | None, Stop | None] = None, None
        while loop.time() < ends_at and ask.heads.may_vouch:
            head, stop = ask.heads.head_of(environment) or head, ask.heads.stop
            parts = []
            # First what stops.
            if stop is not told[1] and stop.sequence:
                parts.append(_write_event("stop", stop.sequence, {"sequence": stop.sequence, "digest": stop.digest}))
            if head is not told[0]:
                news = {"environment": environment, "revision": head.revision, "etag": head.etag}
                parts.append(_write_event("head", head.revision, news))
            told = head, stop
            await ask.send_part(b"".join(parts) or b": still here\n\n")
            try:
                await ask.wait_for_news(node, head, stop, seconds=HEARTBEAT_SECONDS)
            except Refusal:
                # Its answer has begun; the next request is told why.
                break
        await ask.finish()


def _write_event(name: str, number: int, news: dict[str, object]) -> bytes:
    return f"event: {name}\nid: {number}\ndata: {json.dumps(news)}\n\n".encode()
