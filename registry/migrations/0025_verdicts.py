"""Evaluations keep one of three verdicts: what is undecidable has neither passed nor failed."""

from django.db import migrations, models

# Evidence of before was never left open. Processes of the release before read the column, so that it stays until the next; for what they
# do not know it says nothing, which they take for not passed.
TELL_APART = """
    UPDATE registry_evaluation SET verdict = CASE WHEN passed THEN 'pass' ELSE 'fail' END;
    ALTER TABLE registry_evaluation ALTER COLUMN passed DROP NOT NULL;
"""
AS_BEFORE = """
    UPDATE registry_evaluation SET passed = verdict = 'pass';
    ALTER TABLE registry_evaluation ALTER COLUMN passed SET NOT NULL;
"""
VERDICTS = [("pass", "Passed"), ("fail", "Failed"), ("undecidable", "Undecidable")]


class Migration(migrations.Migration):
    dependencies = [("registry", "0024_probes")]
    operations = [
        migrations.AddField(
            model_name="evaluation",
            name="verdict",
            field=models.CharField(choices=VERDICTS, default="fail", max_length=11),
            preserve_default=False,
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(TELL_APART, AS_BEFORE)],
            state_operations=[migrations.RemoveField(model_name="evaluation", name="passed")],
        ),
        migrations.AddConstraint(
            model_name="evaluation",
            constraint=models.CheckConstraint(
                condition=models.Q(("verdict__in", ["pass", "fail", "undecidable"])), name="evaluation_verdict_is_known"
            ),
        ),
    ]
