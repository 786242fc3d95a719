"""The guards: what the database enforces and no model can say. Their text is in registry/guards, a file for each guarded noun.

To change a guard, change its file and add a migration that runs it again: that replaces what is there, and the migration drops what
the file no longer has. A new guard is a new file, run by a migration of its own. So a new database gets here at once what later
migrations bring to an old one. A function may name a column that only they add: names in it are looked up when it runs.
"""

from pathlib import Path

from django.core.management.base import CommandError
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import StateApps

FOLDER = Path(__file__).parent.parent / "guards"
# The first is asked by the others.
GUARDS = ["refusals", "environment_base_model", "revision", "component", "approval", "comment", "flag", "kill", "snapshot", "audit_event"]
UNGUARD = """
DROP FUNCTION
    registry_guard_revision, registry_guard_component, registry_guard_approval, registry_stamp_flag, registry_stamp_flag_of_arm,
    registry_guard_kill, registry_guard_lift, registry_break_rule, registry_refuse_change
    CASCADE;
ALTER TABLE registry_environmentbasemodel DROP CONSTRAINT environment_serves_a_base_model_under_its_own_name;
ALTER TABLE registry_approval
    DROP CONSTRAINT approval_names_the_author_of_its_revision,
    DROP CONSTRAINT approval_author_stands_for_that_person,
    DROP CONSTRAINT approval_reviewer_stands_for_that_person;
"""


def refuse_what_was_before(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """A database made by the migrations that these replace has their 0001 too: it would come out half migrated, or worse, seem whole."""
    if MigrationRecorder(schema_editor.connection).migration_qs.filter(app="registry", name="0002_roles_and_append_only_audit").exists():
        raise CommandError(
            "This database was made before the first release, and nothing upgrades it. Start with an empty one (embedded mode: "
            "`make clean`). What it holds can be taken out beforehand, by the version that made it: `steer export`, `steer audit export`."
        )


class Migration(migrations.Migration):
    dependencies = [("registry", "0001_the_record")]
    operations = [
        migrations.RunPython(refuse_what_was_before, migrations.RunPython.noop),
        migrations.RunSQL("".join((FOLDER / f"{name}.sql").read_text(encoding="utf-8") for name in GUARDS), UNGUARD),
    ]
