"""Evaluations say where the vector acted and what the model was served under. Evidence of before had neither.

Who made the probe that a condition asks has made a part of what was judged.
"""

from pathlib import Path

from django.db import migrations, models

GUARD = (Path(__file__).parent.parent / "guards" / "evaluation.sql").read_text(encoding="utf-8")


class Migration(migrations.Migration):
    dependencies = [("registry", "0031_waiver_guards")]
    operations = [
        migrations.AddField(model_name="evaluation", name="condition", field=models.JSONField(null=True)),
        migrations.AddField(
            model_name="evaluation",
            name="system_message",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.AddConstraint(
            model_name="evaluation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("condition__isnull", True),
                    models.Q(
                        ("condition__has_key", "kind"),
                        ("condition__kind__in", ("intent", "attribute", "probe")),
                        ("vector__isnull", False),
                    ),
                    _connector="OR",
                ),
                name="evaluation_condition_is_of_its_vector",
            ),
        ),
        migrations.RunSQL(GUARD, migrations.RunSQL.noop),
    ]
