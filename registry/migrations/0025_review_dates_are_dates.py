"""A revision without a review date passed the check for one, because a comparison with NULL is not false."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0024_guarded_states'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='profilerevision',
            name='revision_has_a_review_date_once_approved',
        ),
        migrations.AddConstraint(
            model_name='profilerevision',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'approved'), _negated=True), models.Q(('decided_at__isnull', False), ('review_due_at__gt', models.F('decided_at')), ('review_due_at__isnull', False)), _connector='OR'), name='revision_has_a_review_date_once_approved'),
        ),
    ]
