"""A new version of a vector is held against the one it replaces."""

import django.db.models.deletion
import django.db.models.functions.datetime
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0026_proposals'),
    ]

    operations = [
        migrations.CreateModel(
            name='VectorComparison',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('cosine', models.DecimalField(decimal_places=6, max_digits=7, null=True)),
                ('cosine_missing', models.CharField(blank=True, default='', max_length=300)),
                ('evidence', models.JSONField(null=True)),
                ('evidence_missing', models.CharField(blank=True, default='', max_length=300)),
                ('compared_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('replaced', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='replaced_in', to='registry.steeringvector')),
                ('vector', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='comparison', to='registry.steeringvector')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('vector', models.F('replaced')), _negated=True), name='comparison_is_of_two_vectors'), models.CheckConstraint(condition=models.Q(('cosine__isnull', True), models.Q(('cosine__gte', -1), ('cosine__lte', 1)), _connector='OR'), name='comparison_cosine_is_a_cosine'), models.CheckConstraint(condition=models.Q(models.Q(('cosine__isnull', True), models.Q(('cosine_missing', ''), _negated=True)), models.Q(('cosine__isnull', False), ('cosine_missing', '')), _connector='OR'), name='comparison_says_why_there_is_no_cosine'), models.CheckConstraint(condition=models.Q(models.Q(('evidence__isnull', True), models.Q(('evidence_missing', ''), _negated=True)), models.Q(('evidence__isnull', False), ('evidence_missing', '')), _connector='OR'), name='comparison_says_why_there_is_no_evidence')],
            },
        ),
    ]
