"""Labelled prompts, probes that jobs make of them, and which of them a revision names."""

import uuid
from pathlib import Path

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

FOLDER = Path(__file__).parent.parent / "guards"
# What a submitted revision names does not change.
GUARDS = (FOLDER / "revision.sql").read_text(encoding="utf-8")


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0023_policy_defaults"),
    ]

    operations = [
        migrations.CreateModel(
            name="Probe",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("name", models.SlugField(max_length=100)),
                ("version", models.PositiveIntegerField()),
                ("digest", models.CharField(db_index=True, max_length=64)),
                ("layer", models.PositiveIntegerField()),
                (
                    "site",
                    models.CharField(
                        choices=[
                            ("resid_pre", "Resid Pre"),
                            ("resid_mid", "Resid Mid"),
                            ("resid_post", "Resid Post"),
                            ("attn_out", "Attn Out"),
                            ("mlp_out", "Mlp Out"),
                            ("embedding", "Embedding"),
                        ],
                        max_length=10,
                    ),
                ),
                ("intent", models.CharField(blank=True, default="", max_length=64)),
                ("template_arguments", models.JSONField(db_default={}, default=dict)),
                ("condition", models.JSONField()),
                ("held_out", models.JSONField()),
                ("document_digest", models.CharField(max_length=64, unique=True)),
                ("roc_digest", models.CharField(max_length=64)),
                ("sealed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "ordering": ["name", "-version"],
            },
        ),
        migrations.CreateModel(
            name="PromptSet",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("name", models.SlugField(max_length=100)),
                ("version", models.PositiveIntegerField()),
                ("digest", models.CharField(max_length=64, unique=True)),
                ("prompt_count", models.PositiveIntegerField()),
                (
                    "intents",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=64), blank=True, default=list, size=None
                    ),
                ),
                ("counts", models.JSONField()),
                ("locales", django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=200), size=None)),
                ("sealed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "ordering": ["name", "-version"],
            },
        ),
        migrations.RemoveConstraint(
            model_name="job",
            name="job_of_a_composition_drafts_nothing",
        ),
        migrations.RemoveConstraint(
            model_name="job",
            name="job_has_the_inputs_of_its_kind",
        ),
        migrations.AddField(
            model_name="profilerevision",
            name="probes",
            field=models.JSONField(db_default=[], default=list),
        ),
        migrations.AlterField(
            model_name="job",
            name="kind",
            field=models.CharField(
                choices=[("extraction", "Extraction"), ("validation", "Validation"), ("composition", "Composition"), ("probe", "Probe")],
                max_length=11,
            ),
        ),
        migrations.AddField(
            model_name="probe",
            name="author",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name="probe",
            name="base_model",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="probes", to="registry.basemodel"),
        ),
        migrations.AddField(
            model_name="probe",
            name="job",
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name="trained_probe", to="registry.job"),
        ),
        migrations.AddField(
            model_name="promptset",
            name="author",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name="probe",
            name="prompt_set",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="probes", to="registry.promptset"),
        ),
        migrations.AddField(
            model_name="job",
            name="prompt_set",
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name="jobs", to="registry.promptset"),
        ),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("contrast_set__isnull", False),
                        ("kind", "extraction"),
                        ("prompt_set__isnull", True),
                        ("revision__isnull", True),
                        ("vector__isnull", True),
                        ("components_digest", ""),
                    ),
                    models.Q(
                        ("contrast_set__isnull", True),
                        ("kind", "validation"),
                        ("prompt_set__isnull", True),
                        ("revision__isnull", True),
                        ("vector__isnull", False),
                        ("components_digest", ""),
                    ),
                    models.Q(
                        ("contrast_set__isnull", True),
                        ("kind", "composition"),
                        ("prompt_set__isnull", True),
                        ("revision__isnull", False),
                        ("vector__isnull", True),
                        models.Q(("components_digest", ""), _negated=True),
                    ),
                    models.Q(
                        ("contrast_set__isnull", True),
                        ("kind", "probe"),
                        ("prompt_set__isnull", False),
                        ("revision__isnull", True),
                        ("vector__isnull", True),
                        ("components_digest", ""),
                    ),
                    _connector="OR",
                ),
                name="job_has_the_inputs_of_its_kind",
            ),
        ),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.CheckConstraint(
                condition=models.Q(("draft_for__isnull", True), ("kind__in", ["extraction", "validation"]), _connector="OR"),
                name="job_drafts_only_on_its_way_to_a_profile",
            ),
        ),
        migrations.AddConstraint(
            model_name="promptset",
            constraint=models.UniqueConstraint(fields=("name", "version"), name="prompt_set_version_is_unique"),
        ),
        migrations.AddConstraint(
            model_name="probe",
            constraint=models.UniqueConstraint(fields=("name", "version"), name="probe_version_is_unique"),
        ),
        migrations.AddConstraint(
            model_name="probe",
            constraint=models.CheckConstraint(
                condition=models.Q(("site__in", ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "embedding"])),
                name="probe_site_is_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="probe",
            constraint=models.CheckConstraint(
                condition=models.Q(("condition__has_keys", ["vector", "layer", "site", "read_position", "scale", "bias", "threshold"])),
                name="probe_says_when_it_fires",
            ),
        ),
        # Last, when its column is there.
        migrations.RunSQL(GUARDS, migrations.RunSQL.noop),
    ]
