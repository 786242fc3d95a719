"""A composition: the test split opened once for all components of a revision together, and the evaluation that says so."""

import django.core.validators
import django.db.models.deletion
import registry.models.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0010_idempotent_answers'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='evaluation',
            name='evaluation_unit_is_known',
        ),
        migrations.RemoveConstraint(
            model_name='job',
            name='job_has_the_inputs_of_its_kind',
        ),
        migrations.AddField(
            model_name='evaluation',
            name='components_digest',
            field=registry.models.fields.DigestField(blank=True, db_default='', default='', max_length=64, validators=[django.core.validators.RegexValidator('\\A[0-9a-f]{64}\\Z', 'want 64 lower-case hex digits')]),
        ),
        migrations.AddField(
            model_name='evaluation',
            name='revision',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='compositions', to='registry.profilerevision'),
        ),
        migrations.AddField(
            model_name='job',
            name='components_digest',
            field=registry.models.fields.DigestField(blank=True, db_default='', default='', max_length=64, validators=[django.core.validators.RegexValidator('\\A[0-9a-f]{64}\\Z', 'want 64 lower-case hex digits')]),
        ),
        migrations.AddField(
            model_name='job',
            name='revision',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='composition_jobs', to='registry.profilerevision'),
        ),
        migrations.AlterField(
            model_name='evaluation',
            name='alpha',
            field=registry.models.fields.CoefficientField(decimal_places=6, max_digits=12, null=True),
        ),
        migrations.AlterField(
            model_name='evaluation',
            name='unit',
            field=models.CharField(blank=True, choices=[('absolute', 'Absolute'), ('mean_difference', 'Mean Difference'), ('residual', 'Residual')], db_default='', default='', max_length=15),
        ),
        migrations.AlterField(
            model_name='evaluation',
            name='vector',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='evaluations', to='registry.steeringvector'),
        ),
        migrations.AlterField(
            model_name='job',
            name='kind',
            field=models.CharField(choices=[('extraction', 'Extraction'), ('validation', 'Validation'), ('composition', 'Composition')], max_length=11),
        ),
        migrations.AddConstraint(
            model_name='evaluation',
            constraint=models.UniqueConstraint(condition=models.Q(('components_digest', ''), _negated=True), fields=('components_digest',), name='evaluation_opens_the_test_split_once_per_composition'),
        ),
        migrations.AddConstraint(
            model_name='evaluation',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('alpha__isnull', False), ('components_digest', ''), ('revision__isnull', True), ('unit__in', ['absolute', 'mean_difference', 'residual']), ('vector__isnull', False)), models.Q(('alpha__isnull', True), ('revision__isnull', False), ('unit', ''), ('vector__isnull', True), models.Q(('components_digest', ''), _negated=True)), _connector='OR'), name='evaluation_is_of_one_vector_or_of_one_composition'),
        ),
        migrations.AddConstraint(
            model_name='job',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('components_digest', ''), ('contrast_set__isnull', False), ('kind', 'extraction'), ('revision__isnull', True), ('vector__isnull', True)), models.Q(('components_digest', ''), ('contrast_set__isnull', True), ('kind', 'validation'), ('revision__isnull', True), ('vector__isnull', False)), models.Q(('contrast_set__isnull', True), ('kind', 'composition'), ('revision__isnull', False), ('vector__isnull', True), models.Q(('components_digest', ''), _negated=True)), _connector='OR'), name='job_has_the_inputs_of_its_kind'),
        ),
        migrations.AddConstraint(
            model_name='job',
            constraint=models.UniqueConstraint(condition=models.Q(models.Q(('components_digest', ''), _negated=True), ('state__in', ['queued', 'running', 'succeeded'])), fields=('components_digest',), name='job_opens_the_test_split_once_per_composition'),
        ),
    ]
