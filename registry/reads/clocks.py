"""Whether the clocks agree. Stops need none of them; expiry, review dates and freezes do."""

import time
from datetime import datetime

from django.db import connection

from registry.models import ServingNode

# Further apart than messages are on their way.
TOLERATED_SECONDS = 2.0
# A report states its time to the second, and is written before it is sent.
TOLERATED_OF_NODES = 5


def hub_ahead_seconds() -> float:
    """How far this machine's clock is ahead of the database's; less than 0 where it is behind."""
    before = time.time()
    there = _database_seconds()
    return (before + time.time()) / 2 - there


def node_ahead_seconds(said_at: datetime) -> int:
    """How far the clock of a node is ahead of the database's, whose report came at this moment and states this time."""
    return round(said_at.timestamp() - _database_seconds())


def clock_off_seconds(node: ServingNode) -> int | None:
    """How far a node's clock was off when it last reported; None where that is no more than is tolerated, or it never did."""
    ahead = node.clock_ahead_seconds
    return ahead if ahead is not None and abs(ahead) > TOLERATED_OF_NODES else None


def say_off(node: ServingNode) -> str:
    """In words, such as `90000 s behind`; else nothing."""
    off = clock_off_seconds(node)
    return f"{abs(off)} s {'ahead' if off > 0 else 'behind'}" if off else ""


def _database_seconds() -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())::double precision")
        (there,) = cursor.fetchone()
        return float(there)


def say_disagreement(seconds: float) -> str:
    """In words, where the hub's clock is off by more than is tolerated; else nothing."""
    if abs(seconds) <= TOLERATED_SECONDS:
        return ""
    where = "ahead of" if seconds > 0 else "behind"
    return f"The clock of this hub is {abs(seconds):.0f} s {where} the database's."
