"""What a job takes of its machine; unknown of those that ran before."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0018_kept_steps")]
    operations = [
        migrations.AddField(model_name="job", name="device", field=models.CharField(blank=True, default="", max_length=200)),
        migrations.AddField(model_name="job", name="peak_memory_bytes", field=models.PositiveBigIntegerField(null=True)),
    ]
