"""What says where a base model keeps its blocks and sites, by digest; empty for those registered before."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0015_past_tokens")]
    operations = [
        migrations.AddField(
            model_name="basemodel",
            name="architecture_digest",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
    ]
