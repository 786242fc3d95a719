-- What an approval covers is part of what was approved: covered forms come, change and go only while their revision is a draft.
CREATE OR REPLACE FUNCTION registry_guard_covered_form() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Both revisions of one that is moved: neither may be sealed.
    IF EXISTS (
        SELECT FROM registry_profilerevision WHERE state <> 'draft' AND id IN (
            CASE WHEN TG_OP <> 'INSERT' THEN OLD.revision_id END, CASE WHEN TG_OP <> 'DELETE' THEN NEW.revision_id END
        )
    ) THEN
        PERFORM registry_break_rule('covered_form_changes_only_in_a_draft', 'the revision is sealed');
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE OR REPLACE TRIGGER covered_form_is_guarded BEFORE INSERT OR UPDATE OR DELETE ON registry_coveredform
    FOR EACH ROW EXECUTE FUNCTION registry_guard_covered_form();
ALTER TABLE registry_coveredform ENABLE ALWAYS TRIGGER covered_form_is_guarded;
CREATE OR REPLACE TRIGGER covered_form_is_never_emptied BEFORE TRUNCATE ON registry_coveredform
    FOR EACH STATEMENT EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_coveredform ENABLE ALWAYS TRIGGER covered_form_is_never_emptied;
