"""The migrations make what the models and the guard files say, of nothing that may move, and of no database from before them."""

import ast
import re
import sys
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

REGISTRY = Path(__file__).parents[2] / "registry"
FILES = sorted((REGISTRY / "guards").glob("*.sql"))
# What no model can say: functions, triggers (and whether they fire always), foreign keys over two columns. By what they guard.
GUARDS = """
SELECT NULL, proname, pg_get_functiondef(oid), NULL FROM pg_proc WHERE pronamespace = current_schema::regnamespace
UNION ALL
SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), NULL FROM pg_constraint
    WHERE contype = 'f' AND array_length(conkey, 1) > 1
"""


def guards() -> set[tuple[str | None, str, str, str | None]]:
    with connection.cursor() as cursor:
        cursor.execute(GUARDS)
        return set(cursor.fetchall())


def test_models_ask_for_no_migration(db):
    call_command("makemigrations", check=True, dry_run=True)


def test_the_database_is_guarded_by_the_files_and_by_nothing_else(db):
    """What the migrations left is, byte for byte, what the files make of a database without guards."""
    left = guards()
    with connection.cursor() as cursor:
        for table, name, _, enabled in left:
            if table is None:
                cursor.execute(f"DROP FUNCTION {name} CASCADE")
            elif enabled is None:
                cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        assert guards() == set()
        # The functions that several files ask come first.
        for file in sorted(FILES, key=lambda file: file.stem != "refusals"):
            cursor.execute(file.read_text())
    assert guards() == left
    assert all(enabled in (None, "A") for *_, enabled in left)


def test_a_guard_file_can_be_run_again(db):
    left = guards()
    with connection.cursor() as cursor:
        for file in FILES:
            cursor.execute(file.read_text())
    assert guards() == left


def test_a_guarded_model_names_its_file(db):
    models = {model._meta.db_table: model for model in apps.get_models()}
    for table in {table for table, *_ in guards() if table}:
        (file,) = (file for file in FILES if re.search(rf"ALTER TABLE {table}\b", file.read_text()))
        assert f"registry/guards/{file.name}" in models[table].__doc__


@pytest.mark.parametrize("file", sorted((REGISTRY / "migrations").glob("0*.py")), ids=lambda file: file.stem)
def test_a_migration_imports_no_living_code(file):
    """Only Django and the standard library: what else a migration named could move, or come to mean something else."""
    imports = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [node.module or "" if isinstance(node, ast.ImportFrom) else alias.name for node in imports for alias in node.names]
    assert {module.split(".")[0] for module in modules} <= {"django", *sys.stdlib_module_names}


def test_a_database_from_before_the_first_release_is_refused_and_left_as_it_is(db):
    recorder = MigrationRecorder(connection)
    for app, name in recorder.applied_migrations():
        if app == "registry" and name != "0001_the_record":
            recorder.record_unapplied(app, name)
    recorder.record_applied("registry", "0002_roles_and_append_only_audit")
    recorded, left = set(recorder.applied_migrations()), guards()
    with pytest.raises(CommandError, match="made before the first release"):
        call_command("migrate", verbosity=0)
    assert set(recorder.applied_migrations()) == recorded
    assert guards() == left
