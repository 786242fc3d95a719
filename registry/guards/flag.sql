-- A stamp tells a flag from every other state that it, or its arms, were ever in, also across a restore from backup: 64 random bits,
-- drawn at every write, whoever writes (ADR 8). A process keeps what it made of a flag for as long as the stamp is the same.
CREATE OR REPLACE FUNCTION registry_stamp_flag() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    drawn text := gen_random_uuid()::text;
BEGIN
    -- The first and the last eight digits: between them are the version and the variant, which are the same in every one.
    NEW.stamp = ('x' || left(drawn, 8) || right(drawn, 8))::bit(64)::bigint;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER flag_is_stamped BEFORE INSERT OR UPDATE ON registry_tenantflag
    FOR EACH ROW EXECUTE FUNCTION registry_stamp_flag();
ALTER TABLE registry_tenantflag ENABLE ALWAYS TRIGGER flag_is_stamped;

-- A change of an arm writes its flag, which draws a stamp: the zero is never kept.
CREATE OR REPLACE FUNCTION registry_stamp_flag_of_arm() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE registry_tenantflag SET stamp = 0 WHERE id = OLD.flag_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE registry_tenantflag SET stamp = 0 WHERE id = NEW.flag_id;
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER flag_of_arm_is_stamped AFTER INSERT OR UPDATE OR DELETE ON registry_flagarm
    FOR EACH ROW EXECUTE FUNCTION registry_stamp_flag_of_arm();
ALTER TABLE registry_flagarm ENABLE ALWAYS TRIGGER flag_of_arm_is_stamped;
