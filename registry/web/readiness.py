"""Whether this process can do its work: its database has every table that this code reads, and there is a key to sign with."""

from functools import cache

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from registry.errors import NotReady
from registry.snapshots.sign import signing_key


def check_readiness() -> None:
    """Raises: NotReady MIGRATIONS_PENDING, SIGNING_KEY; OperationalError if the database does not answer."""
    check_migrations()
    try:
        signing_key()
    except ValueError as error:
        message = f"there is no key that snapshots could be signed with: STEERHUB_SIGNING_KEY is not an Ed25519 private key ({error})"
        raise NotReady("SIGNING_KEY", message, "STEERHUB_SIGNING_KEY") from error


def check_migrations() -> None:
    """Raises: NotReady MIGRATIONS_PENDING."""
    # Asked each time: a database can be replaced by an older one under a process that runs.
    applied = MigrationRecorder(connection).applied_migrations()
    pending = sorted(_known_migrations() - applied.keys())
    if pending:
        first = ".".join(pending[0])
        others = f" and {len(pending) - 1} more" * (len(pending) > 1)
        raise NotReady("MIGRATIONS_PENDING", f"the database lacks {first}{others}; run `python manage.py migrate`", first)


@cache
def _known_migrations() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None).graph.nodes)
