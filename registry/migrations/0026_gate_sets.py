"""Gate sets of the organisation, which policies may name."""

import uuid
from pathlib import Path

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

GUARD = (Path(__file__).parent.parent / "guards" / "gate_set.sql").read_text(encoding="utf-8")


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0025_verdicts"),
    ]

    operations = [
        migrations.AlterField(
            model_name="riskpolicy",
            name="gate_set",
            field=models.CharField(max_length=111),
        ),
        migrations.CreateModel(
            name="GateSet",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("name", models.SlugField(max_length=100)),
                ("version", models.PositiveIntegerField()),
                ("digest", models.CharField(max_length=64, unique=True)),
                ("about", models.TextField(max_length=2000)),
                ("gates", models.JSONField()),
                ("sealed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("author", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL)),
            ],
            options={
                "ordering": ["name", "-version"],
                "constraints": [
                    models.UniqueConstraint(fields=("name", "version"), name="gate_set_version_is_unique"),
                    models.CheckConstraint(condition=models.Q(("gates", []), _negated=True), name="gate_set_has_a_gate"),
                ],
            },
        ),
        migrations.RunSQL(GUARD, migrations.RunSQL.noop),
    ]
