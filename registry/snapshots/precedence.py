"""A kill does not wait for a batch. A batch holds every environment, so between its steps it looks whether a kill is coming,
and if one is, it gives way: all of it is undone, and whoever sent it sends it again.

The sign between them is an advisory lock, which the kill holds until it is committed and the batch only ever tries.
"""

from django.db import connection

from registry.errors import TransitionRefused

# Any number that nothing else in this database locks; "steekill" in hex.
_LOCK = 0x737465656B696C6C


def take_precedence() -> None:
    """Before a kill locks the environments: batches that hold them give way."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def give_way_to_kills() -> None:
    """Between two steps of a batch. Raises: TransitionRefused KILL_FIRST."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock_shared(%s) AND pg_advisory_unlock_shared(%s)", [_LOCK, _LOCK])
        (is_free,) = cursor.fetchone()
    if not is_free:
        raise TransitionRefused("KILL_FIRST", "a kill was engaged meanwhile and went first; nothing was changed, so send this again")
