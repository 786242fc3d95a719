"""A revision may lose the ground it stood on: the state `invalidated`, with the reason."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0003_trace_map'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='profilerevision',
            name='revision_state_is_known',
        ),
        migrations.AddField(
            model_name='profilerevision',
            name='invalidated_reason',
            field=models.CharField(blank=True, db_default='', default='', max_length=500),
        ),
        migrations.AlterField(
            model_name='profilerevision',
            name='state',
            field=models.CharField(choices=[('draft', 'Draft'), ('submitted', 'Submitted'), ('approved', 'Approved'), ('rejected', 'Rejected'), ('retired', 'Retired'), ('invalidated', 'Invalidated')], default='draft', max_length=11),
        ),
        migrations.AddConstraint(
            model_name='profilerevision',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['draft', 'submitted', 'approved', 'rejected', 'retired', 'invalidated'])), name='revision_state_is_known'),
        ),
        migrations.AddConstraint(
            model_name='profilerevision',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'invalidated'), models.Q(('invalidated_reason', ''), _negated=True)), models.Q(models.Q(('state', 'invalidated'), _negated=True), ('invalidated_reason', '')), _connector='OR'), name='revision_has_a_reason_exactly_when_invalidated'),
        ),
    ]
