-- Whether two base models are of one family: going from each to what it is a form of, and so on, they meet.
CREATE OR REPLACE FUNCTION registry_are_forms(one uuid, other uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    -- UNION ends where it goes round.
    RETURN EXISTS (
        WITH RECURSIVE line (begins, id) AS (
            SELECT id, id FROM registry_basemodel WHERE id IN (one, other)
            UNION
            SELECT line.begins, form.derived_from_id FROM line JOIN registry_basemodel AS form ON form.id = line.id
                WHERE form.derived_from_id IS NOT NULL
        )
        SELECT FROM line AS up JOIN line AS down ON up.id = down.id WHERE up.begins = one AND down.begins = other
    );
END $$;

-- A revision begins as a draft and moves along the arrows of its states. What it does changes only while it is a draft. It is
-- approved by enough persons, in every role that was demanded, by decisions on this very state that have not expired; it is
-- rejected by a decision that says so. The services check all of this first, and say it better.
CREATE OR REPLACE FUNCTION registry_guard_revision() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    evidence text;
    rests_on uuid[];
    stray text;
    persons integer;
    roles text[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'draft' THEN
            PERFORM registry_break_rule('revision_begins_as_a_draft', 'it was inserted as ' || NEW.state);
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('draft', 'submitted'), ('submitted', 'draft'), ('submitted', 'approved'), ('submitted', 'rejected'),
        ('submitted', 'invalidated'), ('approved', 'retired'), ('approved', 'invalidated')
    ) THEN
        PERFORM registry_break_rule('revision_moves_along_its_arrows', OLD.state || ' -> ' || NEW.state);
    END IF;
    IF (NEW.id, NEW.profile_id, NEW.number, NEW.author_id) IS DISTINCT FROM (OLD.id, OLD.profile_id, OLD.number, OLD.author_id) THEN
        PERFORM registry_break_rule('revision_keeps_its_name_and_author', 'neither ever changes');
    END IF;
    -- Everything that its digest covers, or that its approval relies on. Components have a guard of their own.
    IF OLD.state <> 'draft' AND NEW.state <> 'draft' AND (
        NEW.digest, NEW.evaluation_id, NEW.base_model_id, NEW.demands, NEW.submission, NEW.safety_override, NEW.probes, NEW.stale_policy,
        NEW.max_staleness_seconds, NEW.rationale, NEW.submitted_at, NEW.waivers,
        NEW.peak_absolute, NEW.peak_mean_difference, NEW.peak_residual, NEW.peak_share
    ) IS DISTINCT FROM (
        OLD.digest, OLD.evaluation_id, OLD.base_model_id, OLD.demands, OLD.submission, OLD.safety_override, OLD.probes, OLD.stale_policy,
        OLD.max_staleness_seconds, OLD.rationale, OLD.submitted_at, OLD.waivers,
        OLD.peak_absolute, OLD.peak_mean_difference, OLD.peak_residual, OLD.peak_share
    ) THEN
        PERFORM registry_break_rule('revision_is_sealed_once_submitted', 'only a draft is edited');
    END IF;
    -- What it rests on did not fail, and for every gate that is undecidable two people who did not write it answer, by a waiver that it
    -- names: in its evidence, and where that is of components together, in what was said of each alone. That is the newest at its α, or at
    -- the nearest beyond; of what only removes, whose strength is no α, the newest.
    IF (OLD.state, NEW.state) IN (('draft', 'submitted'), ('submitted', 'approved')) THEN
        rests_on := NEW.evaluation_id || ARRAY(
            SELECT part.id
                FROM registry_component AS component
                    JOIN registry_evaluation AS whole ON whole.id = NEW.evaluation_id AND whole.components_digest <> ''
                    CROSS JOIN LATERAL (
                        SELECT alone.id FROM registry_evaluation AS alone
                            WHERE alone.vector_id = component.vector_id AND (
                                component.operator IN ('ablate', 'clamp') OR (
                                    alone.unit = component.unit AND CASE WHEN component.alpha < 0
                                        THEN alone.alpha <= component.alpha ELSE alone.alpha >= component.alpha END
                                )
                            )
                            ORDER BY CASE WHEN component.operator IN ('ablate', 'clamp') THEN 0 ELSE abs(alone.alpha) END,
                                alone.evaluated_at DESC
                            LIMIT 1
                    ) AS part
                WHERE component.revision_id = NEW.id
        );
        -- By its gates, and where none of them says why not, by its verdict.
        IF EXISTS (
            SELECT FROM registry_evaluation AS judged WHERE judged.id = ANY (rests_on) AND (
                judged.verdict = 'fail' OR EXISTS (
                    SELECT FROM jsonb_array_elements(judged.gates) AS gate
                        WHERE coalesce(gate ->> 'verdict', '') NOT IN ('pass', 'undecidable')
                ) OR (judged.verdict = 'undecidable' AND NOT judged.gates @> '[{"verdict": "undecidable"}]')
            )
        ) THEN
            PERFORM registry_break_rule('revision_rests_on_evidence_that_did_not_fail', 'a failed gate is never waived');
        END IF;
        SELECT gate ->> 'metric' INTO stray
            FROM registry_evaluation AS judged CROSS JOIN jsonb_array_elements(judged.gates) AS gate
            WHERE judged.id = ANY (rests_on) AND gate ->> 'verdict' = 'undecidable' AND NOT EXISTS (
                SELECT FROM jsonb_array_elements(NEW.waivers) AS said JOIN registry_waiver AS waiver ON waiver.id = (said ->> 'id')::uuid
                    WHERE waiver.evaluation_id = judged.id AND waiver.metric = gate ->> 'metric' AND waiver.kind = gate ->> 'kind'
                        AND waiver.threshold = gate ->> 'threshold' AND registry_waiver_counts(waiver.id, NEW.author_id)
            )
            LIMIT 1;
        IF FOUND THEN
            PERFORM registry_break_rule('revision_rests_on_no_undecidable_gate_without_a_waiver', stray);
        END IF;
        SELECT said ->> 'id' INTO stray FROM jsonb_array_elements(NEW.waivers) AS said
            WHERE NOT registry_waiver_counts((said ->> 'id')::uuid, NEW.author_id) LIMIT 1;
        IF FOUND THEN
            PERFORM registry_break_rule('revision_rests_on_waivers_that_count', stray);
        END IF;
        IF NEW.state = 'approved' AND EXISTS (
            SELECT FROM jsonb_array_elements(NEW.waivers) AS said JOIN registry_waiver AS waiver ON waiver.id = (said ->> 'id')::uuid
                WHERE waiver.ends_at < NEW.review_due_at
        ) THEN
            PERFORM registry_break_rule('revision_is_reviewed_when_its_first_waiver_ends', 'its review is due later');
        END IF;
    END IF;
    -- A form is covered as what comparisons on record make of it: its family is that of what was measured, and its files are others.
    IF OLD.state = 'draft' AND NEW.state = 'submitted' THEN
        SELECT form.name INTO stray
            FROM registry_coveredform AS covered
                JOIN registry_basemodel AS form ON form.id = covered.base_model_id
                JOIN registry_basemodel AS measured ON measured.id = NEW.base_model_id
            WHERE covered.revision_id = NEW.id
                AND (form.fingerprint = measured.fingerprint OR NOT registry_are_forms(form.id, measured.id))
            LIMIT 1;
        IF FOUND THEN
            PERFORM registry_break_rule('revision_covers_forms_of_its_base_model', stray || ' is none');
        END IF;
    END IF;
    IF OLD.state = NEW.state AND NEW.state <> 'draft'
        AND (NEW.decided_at, NEW.review_due_at, NEW.invalidated_reason)
            IS DISTINCT FROM (OLD.decided_at, OLD.review_due_at, OLD.invalidated_reason) THEN
        PERFORM registry_break_rule('revision_keeps_its_dates_and_reason', 'they are set when its state changes');
    END IF;
    -- A decision counts for the state that it names: a digest of the revision and one of its evidence.
    IF OLD.state = 'submitted' AND NEW.state IN ('approved', 'rejected') THEN
        SELECT digest INTO evidence FROM registry_evaluation WHERE id = NEW.evaluation_id;
        IF (NEW.state = 'rejected') <> EXISTS (
            SELECT FROM registry_approval WHERE revision_id = NEW.id AND decision <> 'approve'
                AND revision_digest = NEW.digest AND evidence_digest = evidence
        ) THEN
            PERFORM registry_break_rule('revision_is_rejected_exactly_when_somebody_says_so', 'it cannot be ' || NEW.state);
        END IF;
    END IF;
    IF OLD.state = 'submitted' AND NEW.state = 'approved' THEN
        -- What is pending counts only while its author may, and so does each approval, in the roles that are still held.
        IF NOT registry_still_may(NEW.author_id, '{author}', false) THEN
            PERFORM registry_break_rule('revision_is_approved_while_its_author_may', 'they left, or lost the role');
        END IF;
        -- Persons, not accounts: a service account is the person that it acts for.
        SELECT count(DISTINCT given.reviewer_person), coalesce(array_agg(DISTINCT held.role::text), '{}')
            INTO persons, roles
            FROM registry_approval AS given LEFT JOIN LATERAL (
                SELECT auth_group.name FROM registry_user_groups AS membership JOIN auth_group ON auth_group.id = membership.group_id
                    WHERE membership.user_id = given.reviewer_id AND auth_group.name = ANY (given.roles)
            ) AS held (role) ON true
            WHERE given.revision_id = NEW.id AND given.decision = 'approve' AND registry_still_may(given.reviewer_id, '{approver}', false)
                AND given.revision_digest = NEW.digest AND given.evidence_digest = evidence
                AND given.decided_at > now() - make_interval(days => (NEW.demands ->> 'approval_valid_days')::integer);
        IF persons < greatest(1, (NEW.demands ->> 'approvals_needed')::integer) THEN
            PERFORM registry_break_rule(
                'revision_is_approved_by_enough_persons', persons || ' of ' || (NEW.demands ->> 'approvals_needed')
            );
        END IF;
        IF NOT ARRAY(SELECT jsonb_array_elements_text(NEW.demands -> 'reviewer_roles')) <@ roles THEN
            PERFORM registry_break_rule('revision_is_approved_in_every_role', 'demanded are ' || (NEW.demands ->> 'reviewer_roles'));
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER revision_is_guarded BEFORE INSERT OR UPDATE ON registry_profilerevision
    FOR EACH ROW EXECUTE FUNCTION registry_guard_revision();
ALTER TABLE registry_profilerevision ENABLE ALWAYS TRIGGER revision_is_guarded;
