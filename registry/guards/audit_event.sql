-- The log only grows: each event is hashed into the next.
CREATE OR REPLACE TRIGGER audit_event_is_append_only BEFORE UPDATE OR DELETE ON registry_auditevent
    FOR EACH ROW EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_auditevent ENABLE ALWAYS TRIGGER audit_event_is_append_only;
CREATE OR REPLACE TRIGGER audit_event_is_never_emptied BEFORE TRUNCATE ON registry_auditevent
    FOR EACH STATEMENT EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_auditevent ENABLE ALWAYS TRIGGER audit_event_is_never_emptied;
