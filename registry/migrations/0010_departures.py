"""What is pending counts only while its author may: a revision is approved by those who still are approvers."""

from pathlib import Path

from django.db import migrations

GUARD = (Path(__file__).parent.parent / "guards" / "revision.sql").read_text(encoding="utf-8")


class Migration(migrations.Migration):
    dependencies = [("registry", "0009_lifts")]
    operations = [migrations.RunSQL(GUARD, migrations.RunSQL.noop)]
