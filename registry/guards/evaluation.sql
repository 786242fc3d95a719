-- What the gates said of a candidate is written once. Approvals rest on it, and so do waivers.
CREATE OR REPLACE TRIGGER evaluation_is_append_only BEFORE UPDATE OR DELETE ON registry_evaluation
    FOR EACH ROW EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_evaluation ENABLE ALWAYS TRIGGER evaluation_is_append_only;
CREATE OR REPLACE TRIGGER evaluation_is_never_emptied BEFORE TRUNCATE ON registry_evaluation
    FOR EACH STATEMENT EXECUTE FUNCTION registry_refuse_change();
ALTER TABLE registry_evaluation ENABLE ALWAYS TRIGGER evaluation_is_never_emptied;

-- No verdict is milder than its gates. Whose work was judged is written here, as persons, and by nobody else: who made the vectors and
-- the probes that the job or the condition names, whatever its draft holds by now, and who wrote the draft.
CREATE OR REPLACE FUNCTION registry_guard_evaluation() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    worst text;
BEGIN
    -- A process of the release before says only whether it passed.
    NEW.verdict := coalesce(NEW.verdict, CASE WHEN NEW.passed THEN 'pass' ELSE 'fail' END);
    -- A word that is none of the three has failed.
    SELECT CASE gate ->> 'verdict' WHEN 'undecidable' THEN 'undecidable' ELSE 'fail' END INTO worst
        FROM jsonb_array_elements(NEW.gates) AS gate WHERE gate ->> 'verdict' IS DISTINCT FROM 'pass' ORDER BY 1 LIMIT 1;
    IF worst IS NOT NULL AND NEW.verdict NOT IN ('fail', worst) THEN
        PERFORM registry_break_rule('evaluation_verdict_is_no_milder_than_its_gates', worst || ', not ' || NEW.verdict);
    END IF;
    NEW.judged_people := ARRAY(
        WITH named AS (
            SELECT part #>> '{}' AS digest
                FROM registry_job AS job CROSS JOIN jsonb_path_query(job.recipe, '$.**.sha256') AS part WHERE job.id = NEW.job_id
            UNION SELECT part #>> '{}' FROM jsonb_path_query(to_jsonb(NEW) -> 'condition', '$.**.sha256') AS part
        )
        SELECT DISTINCT made.person FROM registry_user AS made WHERE made.id IN (
            SELECT author_id FROM registry_steeringvector WHERE id = NEW.vector_id OR digest IN (SELECT named.digest FROM named)
            UNION SELECT author_id FROM registry_probe WHERE digest IN (SELECT named.digest FROM named)
            UNION SELECT author_id FROM registry_profilerevision WHERE id = NEW.revision_id
        ) ORDER BY made.person
    );
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER evaluation_is_guarded BEFORE INSERT ON registry_evaluation
    FOR EACH ROW EXECUTE FUNCTION registry_guard_evaluation();
ALTER TABLE registry_evaluation ENABLE ALWAYS TRIGGER evaluation_is_guarded;
