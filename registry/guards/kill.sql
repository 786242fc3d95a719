-- A kill ends in one way: it is lifted, by two people. What it kills never changes, and it is never deleted.
CREATE OR REPLACE FUNCTION registry_guard_kill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM registry_break_rule('kill_is_never_deleted', 'a kill is lifted');
    END IF;
    IF (NEW.kind, NEW.target, NEW.environment_name, NEW.profile_id, NEW.tenant_id, NEW.environment_id,
        NEW.engaged_by_id, NEW.issuer, NEW.statement_digest, NEW.reported_by_id)
        IS DISTINCT FROM (OLD.kind, OLD.target, OLD.environment_name, OLD.profile_id, OLD.tenant_id, OLD.environment_id,
        OLD.engaged_by_id, OLD.issuer, OLD.statement_digest, OLD.reported_by_id)
        OR (OLD.lifted_at IS NOT NULL AND NEW IS DISTINCT FROM OLD) THEN
        PERFORM registry_break_rule('kill_never_changes_its_target', 'what a kill stops never changes, and a lift is final');
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER kill_never_changes_its_target BEFORE UPDATE OR DELETE ON registry_kill
    FOR EACH ROW EXECUTE FUNCTION registry_guard_kill();
ALTER TABLE registry_kill ENABLE ALWAYS TRIGGER kill_never_changes_its_target;
CREATE OR REPLACE TRIGGER kill_is_never_emptied BEFORE TRUNCATE ON registry_kill
    FOR EACH STATEMENT EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_kill ENABLE ALWAYS TRIGGER kill_is_never_emptied;

-- The constraint of the same name tells two accounts apart; only this can tell two people apart.
CREATE OR REPLACE FUNCTION registry_guard_lift() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    people integer;
BEGIN
    IF NEW.lifted_at IS NOT NULL THEN
        SELECT count(DISTINCT person) INTO people FROM registry_user WHERE id IN (NEW.lift_requested_by_id, NEW.lifted_by_id);
        IF people < 2 THEN
            PERFORM registry_break_rule('kill_is_lifted_by_two_people', 'a service account counts as its person');
        END IF;
        -- Who asked may have left since. Which tenants they see is for the service to know.
        IF NOT registry_still_may(NEW.lift_requested_by_id, '{operator,approver,admin}', NEW.kind = 'tenant') THEN
            PERFORM registry_break_rule('kill_lift_was_asked_for_by_one_who_still_may', 'they left, or lost the role');
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER kill_is_lifted_by_two_people BEFORE INSERT OR UPDATE ON registry_kill
    FOR EACH ROW EXECUTE FUNCTION registry_guard_lift();
ALTER TABLE registry_kill ENABLE ALWAYS TRIGGER kill_is_lifted_by_two_people;
