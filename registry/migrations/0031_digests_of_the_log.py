"""Two indexes fewer on the log: a text column that is unique=True has another one for LIKE, which nobody asks it."""

import django.core.validators
from django.db import migrations, models

import registry.models.fields


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0030_stamps_of_flags"),
    ]

    operations = [
        migrations.AlterField(
            model_name="auditevent",
            name="digest",
            field=registry.models.fields.DigestField(
                max_length=64, validators=[django.core.validators.RegexValidator("\\A[0-9a-f]{64}\\Z", "want 64 lower-case hex digits")]
            ),
        ),
        migrations.AlterField(
            model_name="auditevent",
            name="previous_digest",
            field=registry.models.fields.DigestField(
                max_length=64, validators=[django.core.validators.RegexValidator("\\A[0-9a-f]{64}\\Z", "want 64 lower-case hex digits")]
            ),
        ),
        migrations.AddConstraint(
            model_name="auditevent",
            constraint=models.UniqueConstraint(fields=("digest",), name="audit_digest_is_unique"),
        ),
        migrations.AddConstraint(
            model_name="auditevent",
            constraint=models.UniqueConstraint(fields=("previous_digest",), name="audit_previous_digest_is_unique"),
        ),
    ]
