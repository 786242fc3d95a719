-- A snapshot is what was signed, and nodes have seen it. Taking something back is a new and higher revision.
CREATE OR REPLACE TRIGGER snapshot_is_append_only BEFORE UPDATE OR DELETE ON registry_snapshot
    FOR EACH ROW EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_snapshot ENABLE ALWAYS TRIGGER snapshot_is_append_only;
CREATE OR REPLACE TRIGGER snapshot_is_never_emptied BEFORE TRUNCATE ON registry_snapshot
    FOR EACH STATEMENT EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_snapshot ENABLE ALWAYS TRIGGER snapshot_is_never_emptied;
