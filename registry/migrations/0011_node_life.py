"""The life of a node: invited, enrolled with a key of its own, withdrawn; and where its reports have come to."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0010_departures"),
    ]

    operations = [
        migrations.AddField(
            model_name="servingnode",
            name="applied_digest",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="boot_id",
            field=models.CharField(blank=True, default="", max_length=100),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="capabilities",
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="counted_changes",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="counted_since",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="enrolment_expires_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="enrolment_sha256",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="highest_revision",
            field=models.PositiveBigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="is_mismatched",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="last_seq",
            field=models.PositiveBigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="past_boots",
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="public_key",
            field=models.CharField(blank=True, default="", max_length=44),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="stop_digest",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="stop_held",
            field=models.PositiveBigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="stop_sequence",
            field=models.PositiveBigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="stop_surplus",
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="unservable",
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name="servingnode",
            name="withdrawn_at",
            field=models.DateTimeField(null=True),
        ),
        # Nothing but hands in the database made a node inactive until now.
        migrations.RunSQL("UPDATE registry_servingnode SET withdrawn_at = now() WHERE NOT is_active", migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="servingnode",
            name="enrolled_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AlterField(
            model_name="servingnode",
            name="token_prefix",
            field=models.CharField(blank=True, default="", max_length=12),
        ),
        migrations.AlterField(
            model_name="servingnode",
            name="token_sha256",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddConstraint(
            model_name="servingnode",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("is_active", True), ("withdrawn_at", None)),
                    models.Q(("is_active", False), ("withdrawn_at__isnull", False)),
                    _connector="OR",
                ),
                name="node_is_active_or_withdrawn",
            ),
        ),
        migrations.AddConstraint(
            model_name="servingnode",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("enrolment_expires_at", None), ("enrolment_sha256", "")),
                    models.Q(models.Q(("enrolment_sha256", ""), _negated=True), ("enrolment_expires_at__isnull", False)),
                    _connector="OR",
                ),
                name="node_enrolment_token_expires",
            ),
        ),
        migrations.AddConstraint(
            model_name="servingnode",
            constraint=models.UniqueConstraint(
                condition=models.Q(("token_sha256", ""), _negated=True), fields=("token_sha256",), name="node_token_is_of_one_node"
            ),
        ),
        migrations.AddConstraint(
            model_name="servingnode",
            constraint=models.UniqueConstraint(
                condition=models.Q(("enrolment_sha256", ""), _negated=True),
                fields=("enrolment_sha256",),
                name="node_enrolment_token_is_of_one_node",
            ),
        ),
    ]
