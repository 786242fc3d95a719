"""Approvals may cover forms of the base model that was measured, as a risk policy lets them."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

FOLDER = Path(__file__).parent.parent / "guards"
# That of a revision asks for what it covers.
GUARDS = "".join((FOLDER / f"{name}.sql").read_text(encoding="utf-8") for name in ("base_model", "covered_form", "revision"))
UNGUARD = "DROP FUNCTION registry_guard_covered_form, registry_guard_base_model CASCADE;"


class Migration(migrations.Migration):
    dependencies = [("registry", "0020_forms")]
    operations = [
        migrations.CreateModel(
            name="CoveredForm",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("verdict", models.CharField(max_length=20)),
                ("worst", models.CharField(max_length=100)),
            ],
            options={
                "ordering": ["revision", "base_model"],
            },
        ),
        migrations.AddField(
            model_name="riskpolicy",
            name="coverable_forms",
            field=models.CharField(
                choices=[("none", "None"), ("close", "Close"), ("any", "Any")], db_default="close", default="close", max_length=5
            ),
        ),
        migrations.AddConstraint(
            model_name="riskpolicy",
            constraint=models.CheckConstraint(
                condition=models.Q(("coverable_forms__in", ["none", "close", "any"])), name="policy_coverable_forms_are_known"
            ),
        ),
        migrations.AddField(
            model_name="coveredform",
            name="base_model",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="covered_in", to="registry.basemodel"),
        ),
        migrations.AddField(
            model_name="coveredform",
            name="revision",
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="covers", to="registry.profilerevision"),
        ),
        migrations.AddConstraint(
            model_name="coveredform",
            constraint=models.UniqueConstraint(fields=("revision", "base_model"), name="covered_form_once_in_a_revision"),
        ),
        migrations.AddConstraint(
            model_name="coveredform",
            constraint=models.CheckConstraint(
                condition=models.Q(("verdict__in", ("equal", "another dtype", "quantised"))), name="covered_form_is_a_form"
            ),
        ),
        # Last, when its tables are there.
        migrations.RunSQL(GUARDS, UNGUARD),
    ]
