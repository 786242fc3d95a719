"""The advisory locks by name, and the one order in which locks of all kinds are taken.

A transaction takes what it needs of these from top to bottom, so that two changes queue instead of deadlocking:

1. The `Idempotency-Key` of a request (`try_request`). It is held by the connection, and nobody waits for it.
2. `Lock.NAMES`, held by whoever makes an environment, registers a base model, or runs a batch. So a new environment begins with what
   is registered by then, and the environments that a batch has locked are all there are.
3. The rows of environments (`services.transition.lock_environments`), held by every change of what their nodes are sent.
4. `Lock.STOP`, held by whoever issues a stop statement, and then the rows of kills. A kill takes nothing before it, and a batch never
   takes it, so that a kill waits for another kill or lift and for nobody else.
5. Other rows: a job or a proposal; a risk policy; flags; revisions; waivers; vectors; comparisons. Profiles, tenants, freezes, people and
   nodes are locked one at a time.
6. The numbers of one series (`hold_numbers`), held by whoever makes the next version of a name.
7. `Lock.LOG`, held by whoever appends to the log: at the end of a transition, because everybody else waits meanwhile.

Several rows of one table are locked in the order of their keys; flags in that of their names, under their environment. Environments,
profiles, tenants, people and vectors are locked without their keys (`no_key`), but by whoever deletes them: a kill refers to the first
four and waits for none, and whoever drafts a revision holds numbers, and refers to vectors and profiles without waiting.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from hashlib import sha256
from uuid import UUID

from django.db import OperationalError, connection
from django.db.models import Model
from psycopg import sql


class Lock(IntEnum):
    """What `pg_locks` shows of each: eight letters in hexadecimal."""

    NAMES = 0x7374656572626173  # steerbas
    STOP = 0x7374656573746F70  # steestop
    LOG = 0x7374656572617564  # steeraud


def hold(lock: Lock) -> None:
    """Wait for the lock, and hold it to the end of the transaction."""
    _hold(lock.value)


def hold_numbers(series: str) -> None:
    """Wait until nobody else gives numbers of this series, and hold it to the end of the transaction."""
    _hold(_number_of(series))


def keep_names(model: type[Model], names: Iterable[str]) -> dict[str, UUID]:
    """The ids of the rows of these names, which nobody deletes before the transaction ends. Nobody is waited for either: what somebody
    is deleting at this moment is left out."""
    query = sql.SQL("SELECT name, id FROM {} WHERE name = ANY(%s) FOR KEY SHARE SKIP LOCKED").format(sql.Identifier(model._meta.db_table))
    with connection.cursor() as cursor:
        cursor.execute(query, [list(names)])
        return dict(cursor.fetchall())


@contextmanager
def try_request(key: str) -> Iterator[bool]:
    """Whether no other request runs under this key. Where it is so, none does until the block ends, or the connection."""
    number = _number_of(f"request {key}")
    is_held = _ask("SELECT pg_try_advisory_lock(%s)", number)
    try:
        yield is_held
    finally:
        # A connection that broke meanwhile has lost its lock already, whether or not anybody has noticed yet.
        if is_held and connection.connection is not None and not connection.connection.closed:
            with suppress(OperationalError):
                _ask("SELECT pg_advisory_unlock(%s)", number)


def _hold(number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [number])


def _ask(query: str, *numbers: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(query, numbers)
        (answer,) = cursor.fetchone()
    return bool(answer)


def _number_of(name: str) -> int:
    """64 bits of a digest. Should two names ever share them, one waits for the other without need."""
    return int.from_bytes(sha256(name.encode()).digest()[:8], signed=True)
