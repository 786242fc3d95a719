"""What a base model says to eight fixed prompts, and of which other it is a form; null for those registered before."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0019_job_use")]
    operations = [
        migrations.AddField(model_name="basemodel", name="behaviour", field=models.JSONField(null=True)),
        migrations.AddField(
            model_name="basemodel",
            name="derived_from",
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name="forms", to="registry.basemodel"),
        ),
        migrations.AddField(model_name="basemodel", name="comparison", field=models.JSONField(null=True)),
        migrations.AddConstraint(
            model_name="basemodel",
            constraint=models.CheckConstraint(
                condition=models.Q(("comparison__isnull", True), ("derived_from__isnull", True))
                | models.Q(("comparison__isnull", False), ("derived_from__isnull", False)),
                name="base_model_is_a_form_by_a_comparison",
            ),
        ),
        migrations.AddConstraint(
            model_name="basemodel",
            constraint=models.CheckConstraint(
                condition=models.Q(("derived_from", models.F("id")), _negated=True), name="base_model_is_no_form_of_itself"
            ),
        ),
    ]
