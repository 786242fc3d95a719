"""What a job takes of its machine; unknown of those that ran before."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0017_template_arguments")]
    operations = [
        migrations.AddField(model_name="job", name="device", field=models.CharField(blank=True, default="", max_length=200)),
        migrations.AddField(model_name="job", name="peak_memory_bytes", field=models.PositiveBigIntegerField(null=True)),
        migrations.AddField(
            model_name="job", name="tokens_per_second", field=models.DecimalField(decimal_places=1, max_digits=12, null=True)
        ),
    ]
