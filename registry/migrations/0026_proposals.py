"""After a move, extracting again by the same recipes is proposed, and starts when an author accepts."""

import django.db.models.deletion
import django.db.models.functions.datetime
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0025_review_dates_are_dates'),
    ]

    operations = [
        migrations.CreateModel(
            name='Proposal',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('proposed_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('accepted_at', models.DateTimeField(null=True)),
                ('accepted_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('base_model', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='proposals', to='registry.basemodel')),
                ('job', models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='proposal', to='registry.job')),
                ('profile', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='proposals', to='registry.profile')),
                ('vector', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='proposals', to='registry.steeringvector')),
            ],
            options={
                'ordering': ['-proposed_at', 'vector'],
                'constraints': [models.UniqueConstraint(fields=('vector', 'base_model'), name='proposal_once_for_a_vector_and_a_base_model'), models.CheckConstraint(condition=models.Q(models.Q(('accepted_at__isnull', True), ('accepted_by__isnull', True), ('job__isnull', True)), models.Q(('accepted_at__isnull', False), ('accepted_by__isnull', False), ('job__isnull', False)), _connector='OR'), name='proposal_has_a_job_exactly_when_somebody_accepted')],
            },
        ),
    ]
