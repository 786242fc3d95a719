"""`GET environments/NAME/snapshot`: the signed snapshot, or word that it is still the one named, held back on request."""

from registry.fleet.answers import Ask
from registry.fleet.conditional import read_wait
from registry.fleet.heads import NodeKey
from registry.web.alarms import Alarm

# A node that cannot take up a stop states its old one with every poll. It is told each second, and not as often as it can ask.
SAYS_SO_AGAIN_AFTER_SECONDS = 1.0
_told = Alarm(every_seconds=SAYS_SO_AGAIN_AFTER_SECONDS)


async def send_snapshot(ask: Ask, environment: str) -> None:
    """A poll that waits ends with a new snapshot, and with a new stop statement: then it may be told 304, and which stop that is."""
    node = await ask.identify_in(environment)
    head, stop = ask.find_head(environment), ask.heads.stop
    wait = read_wait(ask.header("prefer"))
    if wait and ask.knows(head.etag):
        ask.need_recent_record()
        seconds = _seconds_to_hold(ask, node, wait)
        if seconds:
            with ask.places.hold(node):
                await ask.wait_for_news(node, head, stop, seconds=seconds)
            head = ask.find_head(environment)
    await ask.answer_poll(head.etag, head.envelope, wait)


def _seconds_to_hold(ask: Ask, node: NodeKey, wait: float) -> float:
    """0 for a node that states another stop than the newest."""
    stated, stop = ask.header("stop-digest"), ask.heads.stop
    if not stated or not stop.sequence or stated == stop.digest:
        return wait
    return 0 if _told.ring(f"{node.id} {stop.digest}") is not None else min(wait, SAYS_SO_AGAIN_AFTER_SECONDS)
