"""TRUNCATE is refused wherever DELETE is: a trigger of a row never hears of it."""

from pathlib import Path

from django.db import migrations

FOLDER = Path(__file__).parent.parent / "guards"
# The first is asked by the others.
CHANGED = ["refusals", "approval", "audit_event", "comment", "component", "kill", "snapshot"]
UNGUARD = """
DROP TRIGGER approval_is_never_emptied ON registry_approval;
DROP TRIGGER audit_event_is_never_emptied ON registry_auditevent;
DROP TRIGGER comment_is_never_emptied ON registry_revisioncomment;
DROP TRIGGER component_is_never_emptied ON registry_component;
DROP TRIGGER kill_is_never_emptied ON registry_kill;
DROP TRIGGER snapshot_is_never_emptied ON registry_snapshot;
"""


class Migration(migrations.Migration):
    dependencies = [("registry", "0003_roles_and_policies")]
    operations = [migrations.RunSQL("".join((FOLDER / f"{name}.sql").read_text(encoding="utf-8") for name in CHANGED), UNGUARD)]
