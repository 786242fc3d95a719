"""What a revision rests on is judged by its gates and by the waivers that it names, in its evidence and in that of its parts."""

from pathlib import Path

from django.db import migrations

FOLDER = Path(__file__).parent.parent / "guards"
GUARDS = "".join((FOLDER / f"{name}.sql").read_text(encoding="utf-8") for name in ("evaluation", "waiver", "revision"))


class Migration(migrations.Migration):
    dependencies = [("registry", "0030_openings_by_vector")]
    operations = [
        # Whose work was judged is a column by now.
        migrations.RunSQL("DROP FUNCTION IF EXISTS registry_judged_people;", migrations.RunSQL.noop),
        migrations.RunSQL(GUARDS, migrations.RunSQL.noop),
    ]
