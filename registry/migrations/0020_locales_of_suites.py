"""Which locales a suite's test split covers. Suites sealed before say none, and so cover none."""

import django.contrib.postgres.fields
from django.db import migrations, models



class Migration(migrations.Migration):
    dependencies = [("registry", "0019_declarations")]
    operations = [
        migrations.AddField(
            model_name='evalsuite',
            name='locales',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=35), blank=True, default=list, size=None),
        ),
    ]
