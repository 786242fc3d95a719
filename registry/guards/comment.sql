-- A comment stays as it was said: an approver may have decided on it.
CREATE OR REPLACE TRIGGER comment_is_append_only BEFORE UPDATE OR DELETE ON registry_revisioncomment
    FOR EACH ROW EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_revisioncomment ENABLE ALWAYS TRIGGER comment_is_append_only;
CREATE OR REPLACE TRIGGER comment_is_never_emptied BEFORE TRUNCATE ON registry_revisioncomment
    FOR EACH STATEMENT EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_revisioncomment ENABLE ALWAYS TRIGGER comment_is_never_emptied;
