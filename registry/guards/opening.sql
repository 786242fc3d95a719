-- The test items of a suite judge one axis on one base model once; what a job leaves that failed or was cancelled nobody can read.
CREATE OR REPLACE FUNCTION registry_guard_opening() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.vector_id IS NOT NULL AND EXISTS (
        SELECT FROM registry_suiteopening AS earlier JOIN registry_job AS job ON job.id = earlier.job_id
            WHERE earlier.suite_id = NEW.suite_id AND earlier.axis = NEW.axis AND earlier.base_model_id = NEW.base_model_id
                AND earlier.vector_id IS NOT NULL AND job.state NOT IN ('failed', 'cancelled')
    ) THEN
        PERFORM registry_break_rule('opening_is_the_first_of_these_items', 'they were opened for this axis on this base model');
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER opening_is_guarded BEFORE INSERT ON registry_suiteopening
    FOR EACH ROW EXECUTE FUNCTION registry_guard_opening();
ALTER TABLE registry_suiteopening ENABLE ALWAYS TRIGGER opening_is_guarded;
CREATE OR REPLACE TRIGGER opening_is_append_only BEFORE UPDATE OR DELETE ON registry_suiteopening
    FOR EACH ROW EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_suiteopening ENABLE ALWAYS TRIGGER opening_is_append_only;
CREATE OR REPLACE TRIGGER opening_is_never_emptied BEFORE TRUNCATE ON registry_suiteopening
    FOR EACH STATEMENT EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_suiteopening ENABLE ALWAYS TRIGGER opening_is_never_emptied;
