"""Several people at once."""

import threading
from collections.abc import Callable

from django.db import connection


def somebody_waits(*kinds: str) -> bool:
    """Whether a transaction waits for a lock of these kinds, in the words of `pg_locks`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = ANY(%s)", [list(kinds)])
        return cursor.fetchone()[0] > 0


def at_once(*works: Callable[[], object]) -> list[object]:
    """Run them in threads that start together; what each returned or raised."""
    barrier = threading.Barrier(len(works))
    results: list[object] = [None] * len(works)

    def run(position: int, work: Callable[[], object]) -> None:
        barrier.wait()
        try:
            results[position] = work()
        except Exception as error:
            results[position] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(position, work)) for position, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return results
