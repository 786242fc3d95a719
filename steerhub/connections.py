"""What happens to a database connection between two requests."""

from typing import Any


def release_session_locks(connection: Any) -> None:
    """A lock that a request held until its connection ended ends here: the pool's connections outlive their requests."""
    connection.execute("SELECT pg_advisory_unlock_all()")
    if not connection.autocommit:
        connection.commit()
