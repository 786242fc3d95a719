"""A submitted revision keeps what its risk policy demanded, how far it can go, and once approved when it must be reviewed.

What was submitted or approved before there were policies was held to none, so it has to be submitted again.
"""

from decimal import Decimal

from django.db import migrations, models

import registry.models.fields


SUBMIT_AGAIN = """
UPDATE registry_profilerevision SET state = 'draft', digest = '', evaluation_id = NULL, submitted_at = NULL WHERE state = 'submitted';
UPDATE registry_profilerevision
    SET state = 'invalidated', invalidated_reason = 'it was approved before there were risk policies; submit it again'
    WHERE state = 'approved';
UPDATE registry_profilerevision
    SET demands = '{"approvals_needed": 1, "reviewer_roles": ["approver"], "approval_valid_days": 30}'
    WHERE state <> 'draft';
-- Foreign keys of rows that changed twice are checked now: the table cannot be altered while that is pending.
SET CONSTRAINTS ALL IMMEDIATE;
"""


class Migration(migrations.Migration):
    dependencies = [("registry", "0020_locales_of_suites")]
    operations = [
        migrations.RemoveConstraint(
            model_name='profilerevision',
            name='revision_needs_an_approval',
        ),
        migrations.RemoveField(
            model_name='profilerevision',
            name='approvals_needed',
        ),
        migrations.AddField(
            model_name='profilerevision',
            name='demands',
            field=models.JSONField(db_default={}, default=dict),
        ),
        migrations.AddField(
            model_name='profilerevision',
            name='peak_absolute',
            field=registry.models.fields.CoefficientField(db_default=Decimal('0'), decimal_places=6, default=Decimal('0'), max_digits=12),
        ),
        migrations.AddField(
            model_name='profilerevision',
            name='peak_mean_difference',
            field=registry.models.fields.CoefficientField(db_default=Decimal('0'), decimal_places=6, default=Decimal('0'), max_digits=12),
        ),
        migrations.AddField(
            model_name='profilerevision',
            name='peak_residual',
            field=registry.models.fields.CoefficientField(db_default=Decimal('0'), decimal_places=6, default=Decimal('0'), max_digits=12),
        ),
        migrations.AddField(
            model_name='profilerevision',
            name='peak_share',
            field=registry.models.fields.CoefficientField(db_default=Decimal('0'), decimal_places=6, default=Decimal('0'), max_digits=12),
        ),
        migrations.AddField(
            model_name='profilerevision',
            name='review_due_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='profilerevision',
            name='submission',
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.RunSQL(SUBMIT_AGAIN, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name='profilerevision',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('demands', {}), ('state', 'draft')), models.Q(models.Q(('state', 'draft'), _negated=True), ('demands__has_keys', ['approvals_needed', 'reviewer_roles', 'approval_valid_days'])), _connector='OR'), name='revision_keeps_what_was_demanded_exactly_when_not_draft'),
        ),
        migrations.AddConstraint(
            model_name='profilerevision',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'approved'), _negated=True), models.Q(('decided_at__isnull', False), ('review_due_at__gt', models.F('decided_at'))), _connector='OR'), name='revision_has_a_review_date_once_approved'),
        ),
    ]
