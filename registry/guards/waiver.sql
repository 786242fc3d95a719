-- Whether a waiver counts now, for a revision of this author: two people gave it who still may and of whom neither wrote it, and it
-- was not withdrawn and did not end.
CREATE OR REPLACE FUNCTION registry_waiver_counts(waiver uuid, author bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM registry_waiver AS given JOIN registry_user AS wrote ON wrote.id = author
            WHERE given.id = waiver AND given.confirmed_at IS NOT NULL AND given.withdrawn_at IS NULL AND given.ends_at > now()
                AND wrote.person NOT IN (given.asked_by_person, given.confirmed_by_person)
                AND registry_still_may(given.asked_by_id, '{approver}', false)
                AND registry_still_may(given.confirmed_by_id, '{approver}', false)
    );
END $$;

-- A waiver is of a gate that is undecidable in that evidence, by approvers who made nothing of what was judged. It is confirmed once,
-- withdrawn once, and nothing else of it changes.
CREATE OR REPLACE FUNCTION registry_guard_waiver() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM registry_break_rule('waiver_is_never_deleted', 'it is withdrawn');
    END IF;
    IF EXISTS (
        SELECT FROM registry_evaluation AS judged
            WHERE judged.id = NEW.evaluation_id AND judged.judged_people && ARRAY[NEW.asked_by_person, NEW.confirmed_by_person]
    ) THEN
        PERFORM registry_break_rule('waiver_is_not_by_the_author', 'they made what was judged');
    END IF;
    IF TG_OP = 'INSERT' THEN
        IF NEW.confirmed_by_id IS NOT NULL OR NEW.withdrawn_by_id IS NOT NULL THEN
            PERFORM registry_break_rule('waiver_begins_with_one_person', 'a second one confirms it');
        END IF;
        IF NOT EXISTS (
            SELECT FROM registry_evaluation AS judged CROSS JOIN jsonb_array_elements(judged.gates) AS gate
                WHERE judged.id = NEW.evaluation_id AND judged.verdict = 'undecidable' AND gate ->> 'verdict' = 'undecidable'
                    AND gate ->> 'metric' = NEW.metric AND gate ->> 'kind' = NEW.kind AND gate ->> 'threshold' = NEW.threshold
        ) THEN
            PERFORM registry_break_rule('waiver_is_of_an_undecidable_gate', NEW.metric || ' is none');
        END IF;
        -- How far its end may be is counted from here; the clocks of hub and database may differ a little.
        IF NEW.asked_at > clock_timestamp() + interval '10 minutes' THEN
            PERFORM registry_break_rule('waiver_is_asked_for_now', NEW.asked_at || ' is to come');
        END IF;
        IF NOT registry_still_may(NEW.asked_by_id, '{approver}', false) THEN
            PERFORM registry_break_rule('waiver_is_given_by_approvers', 'who asks is none');
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
        IF OLD.confirmed_at IS NULL AND NEW.confirmed_at IS NOT NULL THEN
            -- Who asked may have left since.
            IF NOT registry_still_may(NEW.asked_by_id, '{approver}', false) OR NEW.ends_at <= now() THEN
                PERFORM registry_break_rule('waiver_is_confirmed_while_it_is_asked_for', 'it ended, or whoever asked may no longer');
            END IF;
            IF NOT registry_still_may(NEW.confirmed_by_id, '{approver}', false) THEN
                PERFORM registry_break_rule('waiver_is_given_by_approvers', 'who confirms is none');
            END IF;
        END IF;
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
