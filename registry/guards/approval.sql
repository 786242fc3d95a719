-- A decision is never edited and never deleted.
CREATE OR REPLACE TRIGGER approval_is_append_only BEFORE UPDATE OR DELETE ON registry_approval
    FOR EACH ROW EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_approval ENABLE ALWAYS TRIGGER approval_is_append_only;
CREATE OR REPLACE TRIGGER approval_is_never_emptied BEFORE TRUNCATE ON registry_approval
    FOR EACH STATEMENT EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_approval ENABLE ALWAYS TRIGGER approval_is_never_emptied;

-- It is of a submitted revision as it stands, in roles that the reviewer holds.
CREATE OR REPLACE FUNCTION registry_guard_approval() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM registry_profilerevision AS revision JOIN registry_evaluation AS evaluation ON evaluation.id = revision.evaluation_id
            WHERE revision.id = NEW.revision_id AND revision.state = 'submitted'
                AND revision.digest = NEW.revision_digest AND evaluation.digest = NEW.evidence_digest
    ) THEN
        PERFORM registry_break_rule('approval_is_of_the_submitted_state', 'the revision is in another');
    END IF;
    IF NOT NEW.roles::text[] <@ ARRAY(
        SELECT name::text FROM auth_group JOIN registry_user_groups ON group_id = auth_group.id WHERE user_id = NEW.reviewer_id
    ) THEN
        PERFORM registry_break_rule('approval_roles_are_held_by_the_reviewer', NEW.roles::text);
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER approval_is_guarded BEFORE INSERT ON registry_approval
    FOR EACH ROW EXECUTE FUNCTION registry_guard_approval();
ALTER TABLE registry_approval ENABLE ALWAYS TRIGGER approval_is_guarded;

-- That the reviewer is not the author is a constraint of one row, over copies: these hold the copies true. So neither the author of
-- a revision nor whom an account acts for can change once somebody decided.
ALTER TABLE registry_approval
    DROP CONSTRAINT IF EXISTS approval_names_the_author_of_its_revision,
    DROP CONSTRAINT IF EXISTS approval_author_stands_for_that_person,
    DROP CONSTRAINT IF EXISTS approval_reviewer_stands_for_that_person,
    ADD CONSTRAINT approval_names_the_author_of_its_revision
        FOREIGN KEY (revision_id, author_id) REFERENCES registry_profilerevision (id, author_id),
    ADD CONSTRAINT approval_author_stands_for_that_person
        FOREIGN KEY (author_id, author_person) REFERENCES registry_user (id, person),
    ADD CONSTRAINT approval_reviewer_stands_for_that_person
        FOREIGN KEY (reviewer_id, reviewer_person) REFERENCES registry_user (id, person);
