"""All that nodes can serve can be authored: operators with a bound, schedules, conditions, safety overrides."""

import registry.models.fields
import registry.models.profiles
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("registry", "0012_served_base_models"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='component',
            name='component_operator_is_known',
        ),
        migrations.AddField(
            model_name='component',
            name='bound',
            field=registry.models.fields.CoefficientField(decimal_places=6, max_digits=12, null=True),
        ),
        migrations.AddField(
            model_name='component',
            name='condition',
            field=models.JSONField(null=True),
        ),
        migrations.AddField(
            model_name='component',
            name='preserve_norm',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name='component',
            name='schedule',
            field=models.JSONField(db_default={'kind': 'constant'}, default=registry.models.profiles.constant_schedule),
        ),
        migrations.AddField(
            model_name='profilerevision',
            name='safety_override',
            field=models.JSONField(db_default=[], default=list),
        ),
        migrations.AlterField(
            model_name='component',
            name='operator',
            field=models.CharField(choices=[('add', 'Add'), ('ablate', 'Ablate'), ('clamp', 'Clamp')], default='add', max_length=10),
        ),
        migrations.AddConstraint(
            model_name='component',
            constraint=models.CheckConstraint(condition=models.Q(('operator__in', ['add', 'ablate', 'clamp'])), name='component_operator_is_known'),
        ),
        migrations.AddConstraint(
            model_name='component',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('operator__in', ('ablate', 'clamp')), _negated=True), models.Q(('alpha_max__lte', 1), ('alpha_min__gte', 0)), _connector='OR'), name='component_strength_is_between_0_and_1'),
        ),
        migrations.AddConstraint(
            model_name='component',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('bound__isnull', False), ('operator', 'clamp'), models.Q(('bound', 0), _negated=True)), models.Q(models.Q(('operator', 'clamp'), _negated=True), ('bound__isnull', True)), _connector='OR'), name='component_has_a_bound_exactly_when_clamp'),
        ),
        migrations.AddConstraint(
            model_name='component',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('schedule__has_keys', ['kind']), ('schedule__kind', 'constant')), models.Q(('schedule__has_keys', ['kind', 'tokens']), ('schedule__kind', 'linear'), ('schedule__tokens__gte', 1), ('schedule__tokens__lte', 1000000)), models.Q(('schedule__half_life_tokens__gte', 1), ('schedule__half_life_tokens__lte', 1000000), ('schedule__has_keys', ['kind', 'half_life_tokens']), ('schedule__kind', 'exponential')), models.Q(('schedule__first_token__gte', 0), ('schedule__first_token__lte', 1000000), ('schedule__has_keys', ['kind', 'first_token', 'last_token']), ('schedule__kind', 'window'), ('schedule__last_token__gte', 0), ('schedule__last_token__lte', 1000000)), _connector='OR'), name='component_schedule_has_its_parameters'),
        ),
        migrations.AddConstraint(
            model_name='component',
            constraint=models.CheckConstraint(condition=models.Q(('condition__isnull', True), models.Q(('condition__has_key', 'kind'), ('condition__kind__in', ('intent', 'attribute', 'probe'))), _connector='OR'), name='component_condition_is_known'),
        ),
    ]
