"""`GET environments/NAME/events`: a stream of server-sent events that says when there is a new head."""

import asyncio
import json
import random

from registry.fleet.answers import Ask
from registry.fleet.heads import Head

HEARTBEAT_SECONDS = 15.0
# Streams end after about ten minutes, so that a fleet spreads over new processes by itself.
STREAM_SECONDS = 600.0


async def send_events(ask: Ask, environment: str) -> None:
    """Word of every new head, and of the present one first: whoever reconnects has missed something."""
    head = await ask.find_head(environment)
    with ask.places.hold():
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
            head = await ask.wait_for_news(environment, head, HEARTBEAT_SECONDS)
        await ask.finish()
