"""Signing keys on record: what each is for, since when and until when it counts; and the trust documents that said so."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0011_node_life"),
    ]

    operations = [
        migrations.CreateModel(
            name="TrustDocument",
            fields=[
                ("version", models.PositiveBigIntegerField(primary_key=True, serialize=False)),
                ("digest", models.CharField(max_length=64)),
                ("keys", models.JSONField()),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "ordering": ["-version"],
            },
        ),
        migrations.CreateModel(
            name="SigningKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("keyid", models.CharField(max_length=16, unique=True)),
                ("public_key", models.CharField(max_length=44)),
                ("purpose", models.CharField(choices=[("snapshot", "Snapshot"), ("stop", "Stop")], max_length=8)),
                ("not_before", models.DateTimeField()),
                ("not_after", models.DateTimeField()),
                ("revoked_at", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "ordering": ["not_before", "keyid"],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("purpose__in", ["snapshot", "stop"])), name="signing_key_purpose_is_known"),
                    models.CheckConstraint(
                        condition=models.Q(("not_before__lt", models.F("not_after"))), name="signing_key_ends_after_it_begins"
                    ),
                ],
            },
        ),
    ]
