"""A stamp tells a flag from every other state that it, or its arms, were ever in, also across a restore from backup."""

from django.db import migrations, models

STAMPS = """
CREATE FUNCTION registry_stamp_flag() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    drawn text := gen_random_uuid()::text;
BEGIN
    NEW.stamp = ('x' || left(drawn, 8) || right(drawn, 8))::bit(64)::bigint;
    RETURN NEW;
END $$;
CREATE TRIGGER flag_is_stamped BEFORE INSERT OR UPDATE ON registry_tenantflag
    FOR EACH ROW EXECUTE FUNCTION registry_stamp_flag();
ALTER TABLE registry_tenantflag ENABLE ALWAYS TRIGGER flag_is_stamped;

CREATE FUNCTION registry_stamp_flag_of_arm() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE registry_tenantflag SET stamp = 0 WHERE id = OLD.flag_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE registry_tenantflag SET stamp = 0 WHERE id = NEW.flag_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER flag_of_arm_is_stamped AFTER INSERT OR UPDATE OR DELETE ON registry_flagarm
    FOR EACH ROW EXECUTE FUNCTION registry_stamp_flag_of_arm();
ALTER TABLE registry_flagarm ENABLE ALWAYS TRIGGER flag_of_arm_is_stamped;

UPDATE registry_tenantflag SET stamp = 0;
"""

NO_STAMPS = """
DROP TRIGGER flag_of_arm_is_stamped ON registry_flagarm;
DROP FUNCTION registry_stamp_flag_of_arm();
DROP TRIGGER flag_is_stamped ON registry_tenantflag;
DROP FUNCTION registry_stamp_flag();
"""


class Migration(migrations.Migration):
    dependencies = [("registry", "0029_snapshots_as_payload_and_signatures")]

    operations = [
        migrations.AddField("tenantflag", "stamp", models.BigIntegerField(db_default=0, default=0, editable=False)),
        migrations.RunSQL(STAMPS, NO_STAMPS),
    ]
