-- How guards refuse. They are asked by the files beside this one.
--
-- Every trigger is enabled ALWAYS: it holds also for a session that replays changes (session_replication_role = replica), which
-- a superuser may ask for. TRUNCATE fires no trigger of a row, so each table that refuses a DELETE has one of the statement beside it.

-- A row that is written once, and a table that is never emptied.
CREATE OR REPLACE FUNCTION registry_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION '% is never emptied', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END IF;
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

-- A rule, refused as a CHECK constraint of that name would be: whoever catches it need not know which of the two it is.
CREATE OR REPLACE FUNCTION registry_break_rule(rule text, sentence text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: %', rule, sentence USING ERRCODE = 'check_violation', CONSTRAINT = rule;
END $$;
