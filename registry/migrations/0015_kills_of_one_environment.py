"""A kill of a profile or a tenant may be for one environment, and the database knows who two people are."""

from django.db import migrations, models

# A kill ends in one way: it is lifted, by two people. What it kills never changes, and it is never deleted.
GUARD = """
CREATE FUNCTION registry_guard_kill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'kill_is_never_deleted: a kill is lifted'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'kill_is_never_deleted';
    END IF;
    IF (NEW.kind, NEW.profile_id, NEW.tenant_id, NEW.environment_id, NEW.engaged_by_id)
        IS DISTINCT FROM (OLD.kind, OLD.profile_id, OLD.tenant_id, OLD.environment_id, OLD.engaged_by_id)
        OR (OLD.lifted_at IS NOT NULL AND NEW IS DISTINCT FROM OLD) THEN
        RAISE EXCEPTION 'kill_never_changes_its_target: what a kill stops never changes, and a lift is final'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'kill_never_changes_its_target';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER kill_never_changes_its_target BEFORE UPDATE OR DELETE ON registry_kill
    FOR EACH ROW EXECUTE FUNCTION registry_guard_kill();
CREATE FUNCTION registry_guard_lift() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    people integer;
BEGIN
    IF NEW.lifted_at IS NOT NULL THEN
        -- A service account counts as the person it acts for.
        SELECT count(DISTINCT coalesce(acts_for_id, id)) INTO people
            FROM registry_user WHERE id IN (NEW.lift_requested_by_id, NEW.lifted_by_id);
        IF people < 2 THEN
            RAISE EXCEPTION 'kill_is_lifted_by_two_people: a service account counts as its person'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'kill_is_lifted_by_two_people';
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER kill_is_lifted_by_two_people BEFORE INSERT OR UPDATE ON registry_kill
    FOR EACH ROW EXECUTE FUNCTION registry_guard_lift();
ALTER TABLE registry_kill ENABLE ALWAYS TRIGGER kill_never_changes_its_target;
ALTER TABLE registry_kill ENABLE ALWAYS TRIGGER kill_is_lifted_by_two_people;
"""
REVERSE = """
DROP TRIGGER kill_never_changes_its_target ON registry_kill;
DROP TRIGGER kill_is_lifted_by_two_people ON registry_kill;
DROP FUNCTION registry_guard_kill();
DROP FUNCTION registry_guard_lift();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0014_flag_rollouts_arms_and_overrides'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='kill',
            name='kill_names_exactly_its_target',
        ),
        migrations.AddConstraint(
            model_name='kill',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'profile'), ('profile__isnull', False), ('tenant__isnull', True)), models.Q(('kind', 'tenant'), ('profile__isnull', True), ('tenant__isnull', False)), models.Q(('environment__isnull', False), ('kind', 'environment'), ('profile__isnull', True), ('tenant__isnull', True)), models.Q(('environment__isnull', True), ('kind', 'everything'), ('profile__isnull', True), ('tenant__isnull', True)), _connector='OR'), name='kill_names_exactly_its_target'),
        ),
        migrations.RunSQL(GUARD, REVERSE),
    ]
