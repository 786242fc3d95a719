-- The test items of a suite judge one axis on one base model once; what a job leaves that failed or was cancelled nobody can read.
-- The axis is that of the vector's pairs. Where these are not on record it may be any, so that every look counts.
CREATE OR REPLACE FUNCTION registry_guard_opening() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    about text;
BEGIN
    IF NEW.vector_id IS NULL THEN
        RETURN NEW;
    END IF;
    SELECT pairs.axis INTO about FROM registry_steeringvector AS vector JOIN registry_contrastset AS pairs ON pairs.id = vector.contrast_set_id
        WHERE vector.id = NEW.vector_id;
    IF NEW.axis <> about THEN
        PERFORM registry_break_rule('opening_is_of_the_axis_of_its_vector', 'the vector is about ' || about || ', not ' || NEW.axis);
    END IF;
    IF EXISTS (
        SELECT FROM registry_suiteopening AS earlier
                JOIN registry_job AS job ON job.id = earlier.job_id
                JOIN registry_evalsuite AS theirs ON theirs.id = earlier.suite_id
                JOIN registry_evalsuite AS mine ON mine.id = NEW.suite_id
                JOIN registry_steeringvector AS judged ON judged.id = earlier.vector_id
                LEFT JOIN registry_contrastset AS pairs ON pairs.id = judged.contrast_set_id
            WHERE theirs.digest = mine.digest AND earlier.base_model_id = NEW.base_model_id AND job.state NOT IN ('failed', 'cancelled')
                AND coalesce(pairs.axis = about, true)
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
