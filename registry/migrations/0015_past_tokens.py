"""The tokens that a node had before, so that a process which still has one can be told."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0014_node_clock")]
    operations = [
        migrations.AddField(
            model_name="servingnode",
            name="past_tokens",
            field=models.JSONField(default=list),
        ),
    ]
