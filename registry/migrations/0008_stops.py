"""Stop statements, and kills by the name of what they stop, so that one can be on record whose target is not."""

from pathlib import Path

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

FOLDER = Path(__file__).parent.parent / "guards"
# A kill that is lifted never changes, but for this once.
NAME_WHAT_IS_KILLED = """
ALTER TABLE registry_kill DISABLE TRIGGER kill_never_changes_its_target, DISABLE TRIGGER kill_is_lifted_by_two_people;
UPDATE registry_kill AS kill SET
    environment_name = COALESCE((SELECT name FROM registry_environment WHERE id = kill.environment_id), ''),
    target = COALESCE(
        (SELECT name FROM registry_profile WHERE id = kill.profile_id),
        (SELECT name FROM registry_tenant WHERE id = kill.tenant_id),
        (SELECT name FROM registry_environment WHERE id = kill.environment_id),
        '*');
ALTER TABLE registry_kill ENABLE ALWAYS TRIGGER kill_never_changes_its_target, ENABLE ALWAYS TRIGGER kill_is_lifted_by_two_people;
"""
UNGUARD = """
DROP TRIGGER stop_statement_is_append_only ON registry_stopstatement;
DROP TRIGGER stop_statement_is_never_emptied ON registry_stopstatement;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0007_claimed_lineage"),
    ]

    operations = [
        migrations.CreateModel(
            name="StopStatement",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sequence", models.PositiveBigIntegerField(unique=True)),
                ("issued_at", models.DateTimeField()),
                ("payload_zlib", models.BinaryField()),
                ("signatures", models.JSONField()),
                ("digest", models.CharField(max_length=64, unique=True)),
            ],
            options={
                "ordering": ["-sequence"],
            },
        ),
        migrations.RemoveConstraint(
            model_name="kill",
            name="kill_names_exactly_its_target",
        ),
        migrations.AddField(
            model_name="kill",
            name="environment_name",
            field=models.CharField(blank=True, default="", max_length=200),
        ),
        migrations.AddField(
            model_name="kill",
            name="issuer",
            field=models.CharField(blank=True, default="", max_length=200),
        ),
        migrations.AddField(
            model_name="kill",
            name="reported_by",
            field=models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="registry.servingnode"
            ),
        ),
        migrations.AddField(
            model_name="kill",
            name="statement_digest",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddField(
            model_name="kill",
            name="target",
            field=models.CharField(default="", max_length=200),
            preserve_default=False,
        ),
        migrations.AlterField(
            model_name="kill",
            name="engaged_by",
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL),
        ),
        migrations.RunSQL(NAME_WHAT_IS_KILLED, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name="kill",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "profile"), ("tenant__isnull", True)),
                    models.Q(("kind", "tenant"), ("profile__isnull", True)),
                    models.Q(
                        ("environment_name", models.F("target")),
                        ("kind", "environment"),
                        ("profile__isnull", True),
                        ("tenant__isnull", True),
                    ),
                    models.Q(
                        ("environment_name", ""),
                        ("kind", "everything"),
                        ("profile__isnull", True),
                        ("target", "*"),
                        ("tenant__isnull", True),
                    ),
                    _connector="OR",
                ),
                name="kill_names_exactly_its_target",
            ),
        ),
        migrations.AddConstraint(
            model_name="kill",
            constraint=models.CheckConstraint(condition=models.Q(("target", ""), _negated=True), name="kill_names_its_target"),
        ),
        migrations.AddConstraint(
            model_name="kill",
            constraint=models.CheckConstraint(
                condition=models.Q(("environment__isnull", True), models.Q(("environment_name", ""), _negated=True), _connector="OR"),
                name="kill_of_one_environment_names_it",
            ),
        ),
        migrations.AddConstraint(
            model_name="kill",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("engaged_by__isnull", False), ("issuer", ""), ("reported_by__isnull", True), ("statement_digest", "")),
                    models.Q(
                        ("engaged_by__isnull", True),
                        ("reported_by__isnull", False),
                        models.Q(("issuer", ""), _negated=True),
                        models.Q(("statement_digest", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="kill_is_engaged_by_a_person_or_adopted_from_a_statement",
            ),
        ),
        migrations.AddConstraint(
            model_name="stopstatement",
            constraint=models.CheckConstraint(condition=models.Q(("sequence__gte", 1)), name="stop_sequence_starts_at_one"),
        ),
        migrations.RunSQL("".join((FOLDER / f"{name}.sql").read_text(encoding="utf-8") for name in ("stop", "kill")), UNGUARD),
    ]
