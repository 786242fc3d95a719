"""What the chat template was given when a vector was read."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0015_past_tokens"),
    ]

    operations = [
        migrations.AddField(
            model_name="steeringvector",
            name="template_arguments",
            field=models.JSONField(db_default={}, default=dict),
        ),
    ]
