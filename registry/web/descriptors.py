"""How many connections a web process may hold open, so that there is always room for people, for kills and for the database."""

import resource
from functools import cache

# As many long polls and streams as one process is meant for, and as one node may have open in it.
MAX_HELD, MOST_EACH = 2000, 64
# For everything that is not held: requests of people, plain polls, the database, files.
RESERVE = 256


def raise_limit() -> int:
    """The process may open as many files as it is allowed to ask for. How many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            # Some systems say "unlimited" and take no such number.
            return _finite(soft)
    return _finite(hard)


def count_places() -> int:
    """How many connections may be held by this process's limit as it is now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(MAX_HELD, _finite(soft) - RESERVE))


@cache
def count_connections() -> int:
    """How many may be open in all: half of the reserve is for the database and for files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, _finite(soft) - RESERVE // 2)


def _finite(limit: int) -> int:
    return MAX_HELD + RESERVE if limit == resource.RLIM_INFINITY else limit
