"""Version numbers of sealed records."""

from typing import Any

from django.db import connection, models


def next_version(model: type[models.Model], *, field: str = "version", **same: Any) -> int:
    """One more than the highest. An advisory lock makes two authors of one name queue for their numbers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{model._meta.label}:{sorted(same.items())}"])
    highest = model._default_manager.filter(**same).aggregate(models.Max(field))[f"{field}__max"]
    return (highest or 0) + 1
