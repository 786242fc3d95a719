"""What a base model says to eight fixed prompts, for workers and nodes to prove what they loaded; null for those registered before."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0016_architecture_digest")]
    operations = [
        migrations.AddField(model_name="basemodel", name="behaviour", field=models.JSONField(null=True)),
    ]
