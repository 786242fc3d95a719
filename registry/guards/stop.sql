-- A stop statement is what was signed, and nodes obey it. Letting go is a new one with a higher sequence.
CREATE OR REPLACE TRIGGER stop_statement_is_append_only BEFORE UPDATE OR DELETE ON registry_stopstatement
    FOR EACH ROW EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_stopstatement ENABLE ALWAYS TRIGGER stop_statement_is_append_only;
CREATE OR REPLACE TRIGGER stop_statement_is_never_emptied BEFORE TRUNCATE ON registry_stopstatement
    FOR EACH STATEMENT EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_stopstatement ENABLE ALWAYS TRIGGER stop_statement_is_never_emptied;
