-- That a base model is a form of another is said once: approvals rely on it, and on the figures.
CREATE OR REPLACE FUNCTION registry_guard_base_model() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.derived_from_id IS NOT NULL
        AND (NEW.derived_from_id, NEW.comparison) IS DISTINCT FROM (OLD.derived_from_id, OLD.comparison) THEN
        PERFORM registry_break_rule('base_model_is_a_form_as_it_was_stated', 'it is on record as one already');
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER base_model_is_guarded BEFORE UPDATE ON registry_basemodel
    FOR EACH ROW EXECUTE FUNCTION registry_guard_base_model();
ALTER TABLE registry_basemodel ENABLE ALWAYS TRIGGER base_model_is_guarded;
