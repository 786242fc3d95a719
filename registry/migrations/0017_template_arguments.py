"""What the chat template was given when a vector was read."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0016_architecture_digest")]

    operations = [
        migrations.AddField(
            model_name="steeringvector",
            name="template_arguments",
            field=models.JSONField(db_default={}, default=dict),
        ),
    ]
