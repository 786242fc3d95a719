"""A job may go on by itself to a validation and to a draft revision of a profile."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0016_freeze_windows'),
    ]

    operations = [
        migrations.AddField(
            model_name='job',
            name='draft_for',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='jobs', to='registry.profile'),
        ),
        migrations.AddField(
            model_name='job',
            name='follows',
            field=models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='followed_by', to='registry.job'),
        ),
        migrations.AddField(
            model_name='profilerevision',
            name='drafted_by',
            field=models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='drafted_revision', to='registry.job'),
        ),
        migrations.AddConstraint(
            model_name='job',
            constraint=models.CheckConstraint(condition=models.Q(('follows__isnull', True), models.Q(('draft_for__isnull', False), ('kind', 'validation')), _connector='OR'), name='job_follows_another_only_on_its_way_to_a_draft'),
        ),
        migrations.AddConstraint(
            model_name='job',
            constraint=models.CheckConstraint(condition=models.Q(('draft_for__isnull', True), models.Q(('kind', 'composition'), _negated=True), _connector='OR'), name='job_of_a_composition_drafts_nothing'),
        ),
    ]
