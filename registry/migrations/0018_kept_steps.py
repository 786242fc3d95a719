"""What an unfinished job has finished, step by step and out of its row, and what it expects of the rest."""

import django.db.models.deletion
from django.db import migrations, models

# Processes of the release before read the column, so that it stays until the next; from now on nothing is written to it.
LEAVE_COLUMN = "ALTER TABLE registry_job ALTER COLUMN checkpoint SET DEFAULT '{}'::jsonb"
AS_BEFORE = "ALTER TABLE registry_job ALTER COLUMN checkpoint DROP DEFAULT"


class Migration(migrations.Migration):
    dependencies = [("registry", "0017_template_arguments")]
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(LEAVE_COLUMN, AS_BEFORE)],
            state_operations=[migrations.RemoveField(model_name="job", name="checkpoint")],
        ),
        migrations.AddField(model_name="job", name="expected_at", field=models.DateTimeField(null=True)),
        migrations.AddField(model_name="job", name="tokens_per_second", field=models.FloatField(null=True)),
        migrations.CreateModel(
            name="JobStep",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("conditions", models.CharField(max_length=64)),
                ("call", models.CharField(max_length=64)),
                ("batch", models.PositiveIntegerField()),
                ("data", models.BinaryField()),
                ("seal", models.CharField(max_length=64)),
                ("stage", models.CharField(max_length=50)),
                ("name", models.CharField(max_length=50)),
                ("count", models.PositiveIntegerField()),
                ("tokens", models.PositiveBigIntegerField()),
                ("seconds", models.FloatField()),
                (
                    "job",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="steps", to="registry.job"),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("job", "conditions", "call", "batch"), name="job_step_is_kept_once")],
            },
        ),
    ]
