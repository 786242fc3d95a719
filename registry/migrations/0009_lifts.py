"""A request for a lift has a reason and an end, and counts only while whoever made it still may."""

import datetime
from pathlib import Path

import django.db.models.expressions
from django.db import migrations, models

FOLDER = Path(__file__).parent.parent / "guards"
# What the second asks is in the first.
GUARDS = "".join((FOLDER / f"{name}.sql").read_text(encoding="utf-8") for name in ("person", "kill"))
# What was asked without a reason is asked anew; what was lifted stays lifted, by whom it was. A lift is final, but for this once.
GIVE_REASONS = """
ALTER TABLE registry_kill DISABLE TRIGGER USER;
UPDATE registry_kill SET lift_requested_by_id = NULL WHERE lifted_at IS NULL;
UPDATE registry_kill SET lift_requested_at = lifted_at, lift_reason = 'asked when no reason was asked for' WHERE lifted_at IS NOT NULL;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0008_stops"),
    ]

    operations = [
        migrations.AddField(
            model_name="kill",
            name="lift_reason",
            field=models.TextField(blank=True, default="", max_length=2000),
        ),
        migrations.AddField(
            model_name="kill",
            name="lift_requested_at",
            field=models.DateTimeField(null=True),
        ),
        # The file enables its triggers again.
        migrations.RunSQL(GIVE_REASONS + GUARDS, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name="kill",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("lift_reason", ""), ("lift_requested_at__isnull", True), ("lift_requested_by__isnull", True)),
                    models.Q(("lift_reason__regex", "\\S"), ("lift_requested_at__isnull", False), ("lift_requested_by__isnull", False)),
                    _connector="OR",
                ),
                name="kill_lift_is_asked_for_by_somebody_for_a_reason",
            ),
        ),
        migrations.AddConstraint(
            model_name="kill",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("lifted_at__isnull", True),
                    (
                        "lifted_at__lte",
                        django.db.models.expressions.CombinedExpression(
                            models.F("lift_requested_at"), "+", models.Value(datetime.timedelta(days=1))
                        ),
                    ),
                    _connector="OR",
                ),
                name="kill_lift_is_confirmed_while_the_request_lasts",
            ),
        ),
    ]
