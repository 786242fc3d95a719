"""What a search measured stays on its job where no cell passes; nothing is left of those that failed before."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q


def digest() -> models.CharField[str, str]:
    return models.CharField(blank=True, db_default="", default="", max_length=64)


class Migration(migrations.Migration):
    dependencies = [("registry", "0028_openings")]
    operations = [
        migrations.AddField(model_name="job", name="sweep_digest", field=digest()),
        migrations.AddField(model_name="job", name="heatmap_digest", field=digest()),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.CheckConstraint(
                condition=Q(sweep_digest="", heatmap_digest="") | (Q(kind="extraction", state="failed") & ~Q(sweep_digest="")),
                name="job_keeps_its_search_only_when_it_failed",
            ),
        ),
    ]
