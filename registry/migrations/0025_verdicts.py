"""Evaluations keep one of three verdicts, and whose work they judge; what is undecidable has neither passed nor failed.

From here on they are never changed. Out of what a process of the release before says of one the guard makes a verdict.
"""

from pathlib import Path

import django.contrib.postgres.fields
from django.db import migrations, models

GUARD = (Path(__file__).parent.parent / "guards" / "evaluation.sql").read_text(encoding="utf-8")
UNGUARD = """
    DROP FUNCTION registry_guard_evaluation CASCADE;
    DROP TRIGGER evaluation_is_append_only ON registry_evaluation;
    DROP TRIGGER evaluation_is_never_emptied ON registry_evaluation;
"""
# As the guard does of what comes.
NAME_PEOPLE = """
    WITH named AS (
        SELECT judged.id, part #>> '{}' AS digest
            FROM registry_evaluation AS judged JOIN registry_job AS job ON job.id = judged.job_id
                CROSS JOIN jsonb_path_query(job.recipe, '$.**.sha256') AS part
    ), made AS (
        SELECT judged.id, vector.author_id FROM registry_evaluation AS judged JOIN registry_steeringvector AS vector
            ON vector.id = judged.vector_id
        UNION SELECT named.id, vector.author_id FROM named JOIN registry_steeringvector AS vector ON vector.digest = named.digest
        UNION SELECT named.id, probe.author_id FROM named JOIN registry_probe AS probe ON probe.digest = named.digest
        UNION SELECT judged.id, draft.author_id FROM registry_evaluation AS judged JOIN registry_profilerevision AS draft
            ON draft.id = judged.revision_id
    )
    UPDATE registry_evaluation AS judged SET judged_people = people.persons FROM (
        SELECT made.id, array_agg(DISTINCT account.person) AS persons
            FROM made JOIN registry_user AS account ON account.id = made.author_id GROUP BY made.id
    ) AS people WHERE people.id = judged.id;
"""
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
        migrations.AddField(
            model_name="evaluation",
            name="judged_people",
            field=django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), db_default=[], size=None),
        ),
        migrations.RunSQL(NAME_PEOPLE, migrations.RunSQL.noop),
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
        migrations.RunSQL(GUARD, UNGUARD),
    ]
