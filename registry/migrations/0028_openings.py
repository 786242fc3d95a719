"""Openings of test splits, in place of one look at each vector; what was looked at before counts as it was."""

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

GUARD = (Path(__file__).parent.parent / "guards" / "opening.sql").read_text(encoding="utf-8")
UNGUARD = "DROP FUNCTION registry_guard_opening CASCADE;"


def write_what_was_opened(apps: Any, schema_editor: Any) -> None:
    """A recipe of before has the name of a set where later ones have its gates; the digest is of what it has."""
    Job, SuiteOpening = apps.get_model("registry", "Job"), apps.get_model("registry", "SuiteOpening")
    jobs = Job.objects.filter(kind__in=["validation", "composition"]).exclude(state__in=["failed", "cancelled"])
    for job in jobs.prefetch_related("suites").iterator(chunk_size=200):
        suites = list(job.suites.all())
        axis = next((suite.axis for suite in suites if suite.kind == "behaviour"), "")
        gates = json.dumps(job.recipe.get("gates", ""), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        said = {
            "axis": axis,
            "base_model_id": job.base_model_id,
            "vector_id": job.vector_id,
            "gates_digest": hashlib.sha256(gates.encode()).hexdigest(),
            "opened_by_id": job.requested_by_id,
            "opened_at": job.requested_at,
        }
        SuiteOpening.objects.bulk_create([SuiteOpening(suite_id=suite.pk, job_id=job.pk, **said) for suite in suites])


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0027_waivers"),
    ]

    operations = [
        migrations.CreateModel(
            name="SuiteOpening",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("axis", models.SlugField()),
                ("gates_digest", models.CharField(max_length=64)),
                ("opened_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "ordering": ["opened_at"],
            },
        ),
        migrations.RemoveConstraint(
            model_name="evaluation",
            name="evaluation_opens_the_test_split_once",
        ),
        migrations.AddField(
            model_name="suiteopening",
            name="base_model",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="registry.basemodel"),
        ),
        migrations.AddField(
            model_name="suiteopening",
            name="job",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="openings", to="registry.job"),
        ),
        migrations.AddField(
            model_name="suiteopening",
            name="opened_by",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name="suiteopening",
            name="suite",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="openings", to="registry.evalsuite"),
        ),
        migrations.AddField(
            model_name="suiteopening",
            name="vector",
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="registry.steeringvector"),
        ),
        migrations.AddIndex(
            model_name="suiteopening",
            index=models.Index(fields=["base_model", "axis"], name="opening_by_model_and_axis"),
        ),
        migrations.AddConstraint(
            model_name="suiteopening",
            constraint=models.UniqueConstraint(fields=("job", "suite"), name="opening_once_in_a_job"),
        ),
        migrations.RunPython(write_what_was_opened, migrations.RunPython.noop),
        migrations.RunSQL(GUARD, UNGUARD),
    ]
