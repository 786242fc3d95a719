"""Records into PostgreSQL by COPY: as fast as it can be done with every constraint and trigger in force."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from django.db import connection, models
from django.db.models.expressions import DatabaseDefault
from psycopg import sql


def copy_records(records: Iterable[models.Model]) -> int:
    """Store unsaved records of one model, and say how many they were. A column whose value the database decides is left to it."""
    records = iter(records)
    first = next(records, None)
    if first is None:
        return 0
    fields = [field for field in first._meta.concrete_fields if not _is_left_to_database(field, first)]
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(first._meta.db_table), sql.SQL(", ").join(sql.Identifier(field.column) for field in fields)
    )
    count = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for record in chain([first], records):
            copy.write_row([field.get_db_prep_save(getattr(record, field.attname), connection) for field in fields])
            count += 1
    return count


def _is_left_to_database(field: Any, record: models.Model) -> bool:
    value = getattr(record, field.attname)
    return isinstance(value, DatabaseDefault) or (field.primary_key and value is None)
