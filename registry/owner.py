"""Two roles of the database: the one that owns the tables, for migrations, and the one that processes connect as, which owns nothing.

Whoever owns a table can disable its triggers, empty it or drop it; so no process that serves or works is its owner. What the role of
processes may do is granted by `grant_to_app`, at the end of every migration and by `manage.py setup_roles`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from django.conf import settings
from django.db import connection, transaction
from psycopg import sql

# Tables of a schema with whether a row may never be updated, and never deleted: by the triggers that refuse it whatever the row.
_TABLES = """
SELECT class.relname,
    coalesce(bool_or(proname = 'registry_refuse_change' AND tgtype & 16 <> 0), false),
    coalesce(bool_or(proname = 'registry_refuse_change' AND tgtype & 8 <> 0), false)
FROM pg_class AS class LEFT JOIN pg_trigger ON tgrelid = class.oid AND NOT tgisinternal LEFT JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE class.relnamespace = current_schema::regnamespace AND class.relkind IN ('r', 'p') GROUP BY class.relname ORDER BY class.relname"""
# Only migrations write it.
_OF_THE_OWNER = ("django_migrations",)


@contextmanager
def as_owner() -> Iterator[None]:
    """The default connection is the owner's until the block ends. For commands, which have one thread and one connection."""
    with connected_with(settings.STEERHUB_OWNER_DATABASE):
        yield


@contextmanager
def connected_with(database: dict[str, Any]) -> Iterator[None]:
    """The default connection is made anew with the role and the address of these settings; the database's name stays."""
    before = dict(connection.settings_dict)
    _connect_anew({name: database[name] for name in ("USER", "PASSWORD", "HOST", "PORT")})
    try:
        yield
    finally:
        _connect_anew(before)


def _connect_anew(changes: dict[str, Any]) -> None:
    if all(connection.settings_dict[name] == value for name, value in changes.items()):
        return
    if connection.in_atomic_block:
        raise RuntimeError("a transaction belongs to the role that began it")
    connection.close()
    wrapper: Any = connection
    # The pool cleans a connection in a thread of its own; one that is under way when the pool is closed would stay open.
    until = time.monotonic() + 5
    while (stats := wrapper.pool.get_stats())["pool_available"] < stats["pool_size"] and time.monotonic() < until:
        time.sleep(0.005)
    wrapper.close_pool()
    connection.settings_dict.update(changes)


def grant_to_app(*, password: str = "") -> bool:
    """Give the role of processes what it needs, and nothing else; make it, if it is not there. To be asked as the owner.

    False where processes connect as the owner itself, or the role is missing and this one may not make it. Run again it changes nothing.
    """
    role = settings.STEERHUB_APP_ROLE
    # Together, so that no process is without its privileges meanwhile.
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT current_user, EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", [role])
        owner, exists = cursor.fetchone()
        if role == owner:
            return False
        if not exists:
            cursor.execute("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
            if not cursor.fetchone()[0]:
                return False
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
            if password:
                cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))
        cursor.execute(_TABLES)
        for statement in _grants(role, cursor.fetchall()):
            cursor.execute(statement)
    return True


def _grants(role: str, tables: list[tuple[str, bool, bool]]) -> Iterator[sql.Composed]:
    who = sql.Identifier(role)
    yield sql.SQL("REVOKE CREATE ON SCHEMA public FROM PUBLIC, {}").format(who)
    yield sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(who)
    # Of tables that later migrations make.
    yield sql.SQL("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {}").format(who)
    yield sql.SQL("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {}").format(who)
    yield sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {}").format(who)
    yield sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(who)
    for table, keeps_rows, keeps_all in tables:
        allowed = ["SELECT"] if table in _OF_THE_OWNER else ["SELECT", "INSERT"]
        allowed += [] if keeps_rows or table in _OF_THE_OWNER else ["UPDATE"]
        allowed += [] if keeps_all or table in _OF_THE_OWNER else ["DELETE"]
        yield sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(", ").join(map(sql.SQL, allowed)), sql.Identifier(table), who)


class RoleFound(NamedTuple):
    """Who is connected, by what a process may not be."""

    name: str
    is_superuser: bool
    bypasses_rows: bool
    owns: str | None
    may_change: str | None
    server_version: int


_ROLE = """
WITH tables AS (
    SELECT class.oid, class.relname FROM pg_class AS class
    WHERE class.relnamespace = current_schema::regnamespace AND class.relkind IN ('r', 'p') AND class.relname LIKE 'registry\\_%'
), kept AS (
    SELECT tgrelid FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
    WHERE NOT tgisinternal AND proname = 'registry_refuse_change' AND tgtype & 8 <> 0
), owned AS (
    -- Whatever it is: a schema's owner drops its tables, a database's owns its schemas, a function's replaces what a guard does.
    SELECT pg_describe_object(classid, objid, objsubid) AS what FROM pg_shdepend, pg_database
    WHERE datname = current_database() AND deptype = 'o'
        AND refclassid = 'pg_authid'::regclass AND pg_has_role(current_user, refobjid, 'MEMBER')
        AND (dbid = pg_database.oid OR (classid = 'pg_database'::regclass AND objid = pg_database.oid))
)
SELECT rolname, rolsuper, rolbypassrls,
    (SELECT min(what) FROM owned),
    (SELECT min(relname) FROM (
        SELECT relname FROM tables WHERE has_table_privilege(oid, 'TRUNCATE, TRIGGER')
            OR (oid IN (SELECT tgrelid FROM kept) AND has_table_privilege(oid, 'UPDATE, DELETE'))
        UNION ALL SELECT current_schema WHERE has_schema_privilege(current_schema, 'CREATE')
    ) AS changeable)
FROM pg_roles WHERE rolname = current_user"""


def find_role() -> RoleFound | None:
    """Who processes are connected as; None where the database does not answer. Asked past the pool, which would wait for it."""
    try:
        with psycopg.connect(**{**connection.get_connection_params(), "connect_timeout": 5}) as direct:
            name, is_superuser, bypasses_rows, owns, may_change = direct.execute(_ROLE).fetchone() or ("", False, False, None, None)
            return RoleFound(name, is_superuser, bypasses_rows, owns, may_change, direct.info.server_version)
    except psycopg.OperationalError:
        return None
