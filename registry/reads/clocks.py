"""Whether the clocks agree. Stops need none of them; expiry, review dates and freezes do."""

import time

from django.db import connection

# Further apart than messages are on their way.
TOLERATED_SECONDS = 2.0


def hub_ahead_seconds() -> float:
    """How far this machine's clock is ahead of the database's; less than 0 where it is behind."""
    with connection.cursor() as cursor:
        before = time.time()
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())::double precision")
        (there,) = cursor.fetchone()
        return (before + time.time()) / 2 - float(there)


def say_disagreement(seconds: float) -> str:
    """In words, where the hub's clock is off by more than is tolerated; else nothing."""
    if abs(seconds) <= TOLERATED_SECONDS:
        return ""
    where = "ahead of" if seconds > 0 else "behind"
    return f"The clock of this hub is {abs(seconds):.0f} s {where} the database's."
