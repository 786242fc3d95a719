"""Waivers of gates on which nothing can be concluded, and the revisions that rest on them."""

import datetime
import uuid
from pathlib import Path

import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

FOLDER = Path(__file__).parent.parent / "guards"
# That of a revision asks for what it rests on.
GUARDS = "".join((FOLDER / f"{name}.sql").read_text(encoding="utf-8") for name in ("waiver", "revision"))
UNGUARD = "DROP FUNCTION registry_guard_waiver, registry_waiver_counts CASCADE;"


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0026_gate_sets"),
    ]

    operations = [
        migrations.AddField(
            model_name="profilerevision",
            name="waivers",
            field=models.JSONField(db_default=[], default=list),
        ),
        migrations.CreateModel(
            name="Waiver",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("metric", models.CharField(max_length=100)),
                ("kind", models.CharField(max_length=100)),
                ("threshold", models.CharField(max_length=62)),
                ("reason", models.TextField(max_length=2000)),
                ("ends_at", models.DateTimeField()),
                ("asked_by_person", models.BigIntegerField()),
                ("asked_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("confirmed_by_person", models.BigIntegerField(null=True)),
                ("confirmed_at", models.DateTimeField(null=True)),
                ("withdrawn_at", models.DateTimeField(null=True)),
                ("withdrawn_reason", models.TextField(blank=True, db_default="", default="", max_length=2000)),
                ("asked_by", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL)),
                (
                    "confirmed_by",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "evaluation",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="waivers", to="registry.evaluation"),
                ),
                (
                    "withdrawn_by",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "ordering": ["asked_at"],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("reason__regex", "\\S")), name="waiver_says_why"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("ends_at__gt", models.F("asked_at")),
                            (
                                "ends_at__lte",
                                django.db.models.expressions.CombinedExpression(
                                    models.F("asked_at"), "+", models.Value(datetime.timedelta(days=366))
                                ),
                            ),
                        ),
                        name="waiver_ends_within_a_year",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("confirmed_at__isnull", True), ("confirmed_by__isnull", True), ("confirmed_by_person__isnull", True)),
                            models.Q(
                                ("confirmed_at__isnull", False),
                                ("confirmed_by__isnull", False),
                                ("confirmed_by_person__isnull", False),
                                models.Q(("confirmed_by_person", models.F("asked_by_person")), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="waiver_is_given_by_two_people",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("withdrawn_at__isnull", True), ("withdrawn_by__isnull", True), ("withdrawn_reason", "")),
                            models.Q(("withdrawn_at__isnull", False), ("withdrawn_by__isnull", False), ("withdrawn_reason__regex", "\\S")),
                            _connector="OR",
                        ),
                        name="waiver_is_withdrawn_by_somebody_for_a_reason",
                    ),
                ],
            },
        ),
        migrations.RunSQL(GUARDS, UNGUARD),
    ]
