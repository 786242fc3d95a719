"""Processes connect as a role that owns nothing: it reads and writes rows, and can neither empty a table nor lay a guard aside."""

from decimal import Decimal

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection

from registry.checks import check_database
from registry.models import AuditEvent, Kill, TenantFlag
from registry.owner import connected_with, find_role, grant_to_app
from registry.services.flags import set_flag
from registry.services.kills import confirm_lift, engage_kill, request_lift
from registry.services.profiles import retire_revision
from registry.services.tenants import create_environment, create_tenant
from registry.services.waivers import withdraw_waiver
from tests.support.waiving import approve, submit, waive

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def as_app(transactional_db):
    """From here on the test is a process of the hub. Whatever was made before, its owner made."""
    with connected_with({**connection.settings_dict, "USER": settings.STEERHUB_APP_ROLE}):
        yield


REFUSED = {
    "to empty": [
        "TRUNCATE registry_auditevent",
        "TRUNCATE registry_tenant CASCADE",
        "TRUNCATE registry_user",
        "TRUNCATE registry_evaluation CASCADE",
    ],
    "to change what is kept": [
        "UPDATE registry_auditevent SET actor_name = 'mallory'",
        "DELETE FROM registry_auditevent",
        "UPDATE registry_approval SET comment = 'never said'",
        "DELETE FROM registry_approval",
        "UPDATE registry_snapshot SET cause = 'nothing'",
        "DELETE FROM registry_snapshot",
        "DELETE FROM registry_revisioncomment",
        "UPDATE registry_evaluation SET verdict = 'pass'",
        "DELETE FROM registry_evaluation",
    ],
    "to lay a guard aside": [
        "ALTER TABLE registry_auditevent DISABLE TRIGGER ALL",
        "ALTER TABLE registry_auditevent DISABLE TRIGGER audit_event_is_append_only",
        "DROP TRIGGER audit_event_is_append_only ON registry_auditevent",
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION registry_refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "ALTER TABLE registry_approval DROP CONSTRAINT approval_reviewer_is_not_author",
    ],
    "to define": [
        "DROP TABLE registry_auditevent",
        "CREATE TABLE mine (id integer)",
        "ALTER TABLE registry_tenant ADD COLUMN mine integer",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine SUPERUSER",
        "ALTER ROLE steerhub_app SUPERUSER",
        "GRANT UPDATE ON registry_auditevent TO PUBLIC",
        "DELETE FROM django_migrations",
    ],
    "to be somebody else": ["SET ROLE postgres", "SET SESSION AUTHORIZATION postgres"],
}


@pytest.mark.parametrize("statement", [statement for some in REFUSED.values() for statement in some])
def test_a_process_is_refused(flag_on, as_app, statement):
    before = AuditEvent.objects.count()
    with connection.cursor() as cursor:
        if statement.startswith("GRANT"):
            # Refused by a warning: whoever has no grant option grants nothing.
            cursor.execute(statement)
            cursor.execute("SELECT has_table_privilege('registry_auditevent', 'UPDATE')")
            assert cursor.fetchone() == (False,)
            return
        with pytest.raises(DatabaseError, match=r"permission denied|must be owner|must have|cannot set|Only roles with|never emptied"):
            cursor.execute(statement)
    assert AuditEvent.objects.count() == before


def test_a_process_does_all_that_the_hub_does(flag_on, harbor, approved, oscar, grace, as_app):
    production = create_environment("staging", actor=oscar)
    create_tenant("later", actor=oscar)
    set_flag(flag_on.environment, harbor, enabled=True, alpha_scale=Decimal("0.5"), reason="less", actor=oscar)
    kill = engage_kill("everything", reason="x", actor=oscar)
    request_lift(kill.pk, reason="over", actor=oscar)
    confirm_lift(kill.pk, actor=grace)
    retire_revision(approved.pk, reason="superseded", actor=oscar)
    assert not Kill.objects.filter(lifted_at=None).exists()
    assert TenantFlag.objects.get().alpha_scale == Decimal("0.5")
    assert production.snapshots.exists()


def test_a_process_waives_what_it_may_not_change(vector, evaluate, draft, grace, mary, oscar, as_app):
    open_gates = evaluate(vector, undecidable=["slope"])
    waiver = waive(open_gates, "slope", asked_by=grace, confirmed_by=mary)
    approved = approve(submit(draft, open_gates), mary)
    withdraw_waiver(waiver.pk, reason="x", actor=oscar)
    approved.refresh_from_db()
    assert approved.state == "invalidated"


def test_a_process_may_write_every_table_but_what_is_kept(as_app):
    """Also tables that a later migration makes; a test of one that is forgotten would be a refused request."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, has_table_privilege(oid, 'INSERT'), has_table_privilege(oid, 'UPDATE'), has_table_privilege(oid, 'TRUNCATE') "
            "FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        )
        privileges = {name: may for name, *may in cursor.fetchall()}
    assert not any(may_empty for _, _, may_empty in privileges.values())
    assert {name for name, (may_insert, _, _) in privileges.items() if not may_insert} == {"django_migrations"}
    assert {name for name, (_, may_update, _) in privileges.items() if not may_update} >= {
        "django_migrations",
        "registry_auditevent",
        "registry_approval",
        "registry_snapshot",
        "registry_revisioncomment",
        "registry_evaluation",
    }


def test_tables_of_a_later_migration_are_granted_by_themselves(transactional_db):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE registry_later (id bigint GENERATED ALWAYS AS IDENTITY, name text)")
        try:
            cursor.execute(
                "SELECT has_table_privilege(%s, 'registry_later', 'INSERT'), has_table_privilege(%s, 'registry_later', 'TRUNCATE')",
                [settings.STEERHUB_APP_ROLE] * 2,
            )
            assert cursor.fetchone() == (True, False)
        finally:
            cursor.execute("DROP TABLE registry_later")


def test_roles_are_set_up_again_without_a_change(transactional_db, capsys):
    call_command("setup_roles")
    assert "owns nothing" in capsys.readouterr().out
    assert grant_to_app()


def test_roles_are_not_set_up_where_both_are_one(transactional_db, settings):
    settings.STEERHUB_APP_ROLE = connection.settings_dict["USER"]
    with pytest.raises(CommandError, match="two roles"):
        call_command("setup_roles")


# -- The check --------------------------------------------------------------------------------------------------------------------


def ids() -> list[str]:
    return [problem.id for problem in check_database(None, databases=["default"])]


def test_a_role_that_owns_nothing_passes_the_check(as_app):
    role = find_role()
    assert (role.name, role.is_superuser, role.owns, role.may_change) == (settings.STEERHUB_APP_ROLE, False, None, None)
    assert ids() == []


def test_a_process_that_connects_as_a_superuser_does_not_start(transactional_db, settings):
    settings.STEERHUB_APP_ROLE = connection.settings_dict["USER"]
    assert ids() == ["steerhub.E020"]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        ("ALTER ROLE {role} BYPASSRLS", "steerhub.E020"),
        ("GRANT owning TO {role}", "steerhub.E020"),
        ("ALTER FUNCTION registry_refuse_change() OWNER TO {role}", "steerhub.E020"),
        ("ALTER SCHEMA public OWNER TO {role}", "steerhub.E020"),
        ("ALTER DATABASE {database} OWNER TO {role}", "steerhub.E020"),
        ("GRANT CREATE ON SCHEMA public TO {role}", "steerhub.E021"),
        ("GRANT TRIGGER ON registry_kill TO {role}", "steerhub.E021"),
        ("GRANT TRUNCATE ON registry_tenant TO {role}", "steerhub.E021"),
        ("GRANT UPDATE ON registry_auditevent TO {role}", "steerhub.E021"),
        ("GRANT DELETE ON registry_snapshot TO {role}", "steerhub.E021"),
    ],
)
def test_a_role_with_more_than_it_needs_is_found(transactional_db, settings, make, problem):
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        (owner,) = cursor.fetchone()
        cursor.execute("CREATE ROLE probing LOGIN")
        cursor.execute("CREATE ROLE owning")
        try:
            settings.STEERHUB_APP_ROLE = "probing"
            grant_to_app()
            if "owning" in make:
                cursor.execute("GRANT CREATE ON SCHEMA public TO owning")
                cursor.execute("ALTER TABLE registry_notification OWNER TO owning")
            cursor.execute(make.format(role="probing", database=connection.settings_dict["NAME"]))
            with connected_with({**connection.settings_dict, "USER": "probing"}):
                assert ids() == [problem]
        finally:
            with connection.cursor() as cleaning:
                cleaning.execute(f"REASSIGN OWNED BY probing, owning TO {owner}")
                cleaning.execute("DROP OWNED BY probing, owning")
                cleaning.execute("DROP ROLE probing, owning")


def test_a_database_that_does_not_answer_is_no_wrong_setting(transactional_db, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    assert find_role() is None
    assert ids() == []
