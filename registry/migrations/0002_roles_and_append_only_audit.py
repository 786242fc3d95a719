"""The five roles, and a trigger that makes the audit log append-only.

TRUNCATE is left to privileges: Django's own test flush uses it, and production revokes it from the application's role.
"""

from django.db import migrations

APPEND_ONLY = """
CREATE FUNCTION registry_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER audit_event_is_append_only BEFORE UPDATE OR DELETE ON registry_auditevent
    FOR EACH ROW EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_auditevent ENABLE ALWAYS TRIGGER audit_event_is_append_only;
CREATE TRIGGER approval_is_append_only BEFORE UPDATE OR DELETE ON registry_approval
    FOR EACH ROW EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_approval ENABLE ALWAYS TRIGGER approval_is_append_only;
CREATE TRIGGER snapshot_is_append_only BEFORE UPDATE OR DELETE ON registry_snapshot
    FOR EACH ROW EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_snapshot ENABLE ALWAYS TRIGGER snapshot_is_append_only;
"""
REVERSE = """
DROP TRIGGER audit_event_is_append_only ON registry_auditevent;
DROP TRIGGER approval_is_append_only ON registry_approval;
DROP TRIGGER snapshot_is_append_only ON registry_snapshot;
DROP FUNCTION registry_refuse_change();
"""
ROLES = ["author", "approver", "operator", "auditor", "admin"]


def create_roles(apps, schema_editor):
    group = apps.get_model("auth", "Group")
    for name in ROLES:
        group.objects.get_or_create(name=name)


def delete_roles(apps, schema_editor):
    apps.get_model("auth", "Group").objects.filter(name__in=ROLES).delete()


class Migration(migrations.Migration):
    dependencies = [("registry", "0001_the_record"), ("auth", "0012_alter_user_first_name_max_length")]
    operations = [migrations.RunPython(create_roles, delete_roles), migrations.RunSQL(APPEND_ONLY, REVERSE)]
