"""What narrows a person or a token: some tenants, some scopes. Everybody on record keeps what they had."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

SCOPES = ["read", "author", "approver", "operator", "auditor", "admin"]


class Migration(migrations.Migration):
    dependencies = [("registry", "0008_purposes")]
    operations = [
        migrations.AddField("user", "is_limited_to_tenants", models.BooleanField(default=False)),
        migrations.AddField("user", "tenants", models.ManyToManyField(blank=True, related_name="+", to="registry.tenant")),
        migrations.AddField(
            "apitoken",
            "scopes",
            django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=10), blank=True, null=True, size=None),
        ),
        migrations.AddField(
            "apitoken",
            "tenant",
            models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="registry.tenant"
            ),
        ),
        migrations.AddField("apitoken", "last_used_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddConstraint(
            "apitoken",
            models.CheckConstraint(
                condition=models.Q(
                    ("scopes__isnull", True),
                    models.Q(("scopes__contained_by", SCOPES), ("scopes__len__gt", 0)),
                    _connector="OR",
                ),
                name="token_scopes_are_known",
            ),
        ),
    ]
