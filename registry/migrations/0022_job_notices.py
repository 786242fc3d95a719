"""What there is to know of a job beside its recipe; nothing of those that were asked for before."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0021_covered_forms")]
    operations = [migrations.AddField(model_name="job", name="notices", field=models.JSONField(default=list, db_default=[]))]
