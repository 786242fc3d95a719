-- Whose work an evaluation judges: who made the vectors, and who wrote the draft that was judged as a whole. As persons.
CREATE OR REPLACE FUNCTION registry_judged_people(evaluation uuid) RETURNS bigint[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(DISTINCT made.person), '{}')
        FROM registry_evaluation AS judged
            LEFT JOIN registry_component AS component ON component.revision_id = judged.revision_id
            LEFT JOIN registry_profilerevision AS draft ON draft.id = judged.revision_id
            JOIN registry_steeringvector AS vector ON vector.id IN (judged.vector_id, component.vector_id)
            JOIN registry_user AS made ON made.id IN (vector.author_id, draft.author_id)
        WHERE judged.id = evaluation
$$;

-- A waiver is of a gate that is undecidable in that evidence. It is confirmed once, withdrawn once, and nothing else of it changes.
CREATE OR REPLACE FUNCTION registry_guard_waiver() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM registry_break_rule('waiver_is_never_deleted', 'it is withdrawn');
    END IF;
    IF TG_OP = 'INSERT' THEN
        IF NEW.confirmed_by_id IS NOT NULL OR NEW.withdrawn_by_id IS NOT NULL THEN
            PERFORM registry_break_rule('waiver_begins_with_one_person', 'a second one confirms it');
        END IF;
        IF NOT EXISTS (
            SELECT FROM registry_evaluation AS judged CROSS JOIN jsonb_array_elements(judged.gates) AS gate
                WHERE judged.id = NEW.evaluation_id AND gate ->> 'verdict' = 'undecidable'
                    AND gate ->> 'metric' = NEW.metric AND gate ->> 'kind' = NEW.kind AND gate ->> 'threshold' = NEW.threshold
        ) THEN
            PERFORM registry_break_rule('waiver_is_of_an_undecidable_gate', NEW.metric || ' is none');
        END IF;
    ELSE
        IF (NEW.id, NEW.evaluation_id, NEW.metric, NEW.kind, NEW.threshold, NEW.reason, NEW.ends_at, NEW.asked_by_id,
                NEW.asked_by_person, NEW.asked_at)
            IS DISTINCT FROM (OLD.id, OLD.evaluation_id, OLD.metric, OLD.kind, OLD.threshold, OLD.reason, OLD.ends_at, OLD.asked_by_id,
                OLD.asked_by_person, OLD.asked_at)
            OR (OLD.confirmed_at IS NOT NULL AND (NEW.confirmed_by_id, NEW.confirmed_by_person, NEW.confirmed_at)
                IS DISTINCT FROM (OLD.confirmed_by_id, OLD.confirmed_by_person, OLD.confirmed_at))
            OR OLD.withdrawn_at IS NOT NULL THEN
            PERFORM registry_break_rule('waiver_stays_as_it_was_given', 'it is confirmed, or withdrawn, and that is final');
        END IF;
        -- Who asked may have left since.
        IF OLD.confirmed_at IS NULL AND NEW.confirmed_at IS NOT NULL THEN
            IF NOT registry_still_may(NEW.asked_by_id, '{approver}', false) OR NEW.ends_at <= now() THEN
                PERFORM registry_break_rule('waiver_is_confirmed_while_it_is_asked_for', 'it ended, or whoever asked may no longer');
            END IF;
        END IF;
    END IF;
    IF ARRAY[NEW.asked_by_person, NEW.confirmed_by_person] && registry_judged_people(NEW.evaluation_id) THEN
        PERFORM registry_break_rule('waiver_is_not_by_the_author', 'they made what was judged');
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER waiver_is_guarded BEFORE INSERT OR UPDATE OR DELETE ON registry_waiver
    FOR EACH ROW EXECUTE FUNCTION registry_guard_waiver();
ALTER TABLE registry_waiver ENABLE ALWAYS TRIGGER waiver_is_guarded;
CREATE OR REPLACE TRIGGER waiver_is_never_emptied BEFORE TRUNCATE ON registry_waiver
    FOR EACH STATEMENT EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_waiver ENABLE ALWAYS TRIGGER waiver_is_never_emptied;

-- The copies of the persons are true.
ALTER TABLE registry_waiver
    DROP CONSTRAINT IF EXISTS waiver_is_asked_for_by_that_person,
    DROP CONSTRAINT IF EXISTS waiver_is_confirmed_by_that_person,
    ADD CONSTRAINT waiver_is_asked_for_by_that_person
        FOREIGN KEY (asked_by_id, asked_by_person) REFERENCES registry_user (id, person),
    ADD CONSTRAINT waiver_is_confirmed_by_that_person
        FOREIGN KEY (confirmed_by_id, confirmed_by_person) REFERENCES registry_user (id, person);
