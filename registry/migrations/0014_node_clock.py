"""How far each node's clock was off when it last reported."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0013_reserved_arm_names")]
    operations = [
        migrations.AddField(
            model_name="servingnode",
            name="clock_ahead_seconds",
            field=models.BigIntegerField(null=True),
        ),
    ]
