"""What a look is about is what its vector is about, whatever the suite says of itself."""

from pathlib import Path

from django.db import migrations

GUARD = (Path(__file__).parent.parent / "guards" / "opening.sql").read_text(encoding="utf-8")


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0029_failed_searches"),
    ]

    operations = [
        migrations.RunSQL(GUARD, migrations.RunSQL.noop),
    ]
