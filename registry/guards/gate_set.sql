-- A version of a gate set stays as it was sealed: policies and evidence name it.
CREATE OR REPLACE TRIGGER gate_set_is_append_only BEFORE UPDATE OR DELETE ON registry_gateset
    FOR EACH ROW EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_gateset ENABLE ALWAYS TRIGGER gate_set_is_append_only;
CREATE OR REPLACE TRIGGER gate_set_is_never_emptied BEFORE TRUNCATE ON registry_gateset
    FOR EACH STATEMENT EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_gateset ENABLE ALWAYS TRIGGER gate_set_is_never_emptied;
