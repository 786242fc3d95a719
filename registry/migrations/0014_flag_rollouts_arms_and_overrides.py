"""A flag may be for a share of callers, split them into arms, bound what a request may ask for, and inherit."""

import django.contrib.postgres.fields
import django.db.models.deletion
import registry.models.fields
from decimal import Decimal
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0013_authoring'),
    ]

    operations = [
        migrations.CreateModel(
            name='FlagArm',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField()),
                ('name', models.CharField(max_length=50)),
                ('weight', models.PositiveSmallIntegerField()),
                ('alpha_scale', registry.models.fields.CoefficientField(blank=True, decimal_places=6, max_digits=12, null=True)),
            ],
            options={
                'ordering': ['flag', 'position'],
            },
        ),
        migrations.RemoveConstraint(
            model_name='tenantflag',
            name='flag_alpha_scale_is_between_0_and_10',
        ),
        migrations.AddField(
            model_name='tenantflag',
            name='inherits',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('revision', 'Revision'), ('alpha_scale', 'Alpha Scale'), ('rollout', 'Rollout'), ('arms', 'Arms'), ('override', 'Override')], max_length=11), blank=True, db_default=[], default=list, size=None),
        ),
        migrations.AddField(
            model_name='tenantflag',
            name='override_max',
            field=registry.models.fields.CoefficientField(blank=True, decimal_places=6, max_digits=12, null=True),
        ),
        migrations.AddField(
            model_name='tenantflag',
            name='override_min',
            field=registry.models.fields.CoefficientField(blank=True, decimal_places=6, max_digits=12, null=True),
        ),
        migrations.AddField(
            model_name='tenantflag',
            name='rollout',
            field=models.DecimalField(blank=True, db_default=Decimal('100'), decimal_places=3, default=Decimal('100'), max_digits=6, null=True),
        ),
        migrations.AddField(
            model_name='tenantflag',
            name='version',
            field=models.PositiveIntegerField(db_default=1, default=1),
        ),
        migrations.AlterField(
            model_name='tenantflag',
            name='alpha_scale',
            field=registry.models.fields.CoefficientField(blank=True, decimal_places=6, default=Decimal('1'), max_digits=12, null=True),
        ),
        migrations.AlterField(
            model_name='tenantflag',
            name='revision',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='flags', to='registry.profilerevision'),
        ),
        migrations.AddConstraint(
            model_name='tenantflag',
            constraint=models.CheckConstraint(condition=models.Q(('alpha_scale__isnull', True), models.Q(('alpha_scale__gte', 0), ('alpha_scale__lte', 10)), _connector='OR'), name='flag_alpha_scale_is_between_0_and_10'),
        ),
        migrations.AddConstraint(
            model_name='tenantflag',
            constraint=models.CheckConstraint(condition=models.Q(('rollout__isnull', True), models.Q(('rollout__gte', 0), ('rollout__lte', 100)), _connector='OR'), name='flag_rollout_is_a_share'),
        ),
        migrations.AddConstraint(
            model_name='tenantflag',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('override_max__isnull', True), ('override_min__isnull', True)), models.Q(('override_max__isnull', False), ('override_min__isnull', False), ('override_max__gte', models.F('override_min')), ('override_max__lte', 1000), ('override_min__gte', -1000)), _connector='OR'), name='flag_override_is_a_range'),
        ),
        migrations.AddConstraint(
            model_name='tenantflag',
            constraint=models.CheckConstraint(condition=models.Q(('inherits__contained_by', ['revision', 'alpha_scale', 'rollout', 'arms', 'override'])), name='flag_inherits_fields_that_exist'),
        ),
        migrations.AddConstraint(
            model_name='tenantflag',
            constraint=models.CheckConstraint(condition=models.Q(('inherits', []), models.Q(('route', ''), _negated=True), _connector='OR'), name='flag_of_a_tenant_inherits_nothing'),
        ),
        migrations.AddConstraint(
            model_name='tenantflag',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('inherits__contains', ['revision']), ('revision__isnull', True)), models.Q(models.Q(('inherits__contains', ['revision']), _negated=True), models.Q(('revision__isnull', True), _negated=True)), _connector='OR'), name='flag_states_or_inherits_revision'),
        ),
        migrations.AddConstraint(
            model_name='tenantflag',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('inherits__contains', ['alpha_scale']), ('alpha_scale__isnull', True)), models.Q(models.Q(('inherits__contains', ['alpha_scale']), _negated=True), models.Q(('alpha_scale__isnull', True), _negated=True)), _connector='OR'), name='flag_states_or_inherits_alpha_scale'),
        ),
        migrations.AddConstraint(
            model_name='tenantflag',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('inherits__contains', ['rollout']), ('rollout__isnull', True)), models.Q(models.Q(('inherits__contains', ['rollout']), _negated=True), models.Q(('rollout__isnull', True), _negated=True)), _connector='OR'), name='flag_states_or_inherits_rollout'),
        ),
        migrations.AddConstraint(
            model_name='tenantflag',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('inherits__contains', ['override']), _negated=True), ('override_min__isnull', True), _connector='OR'), name='flag_that_inherits_its_override_states_none'),
        ),
        migrations.AddField(
            model_name='flagarm',
            name='flag',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='arms', to='registry.tenantflag'),
        ),
        migrations.AddField(
            model_name='flagarm',
            name='revision',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='registry.profilerevision'),
        ),
        migrations.AddConstraint(
            model_name='flagarm',
            constraint=models.UniqueConstraint(fields=('flag', 'position'), name='arm_position_is_unique'),
        ),
        migrations.AddConstraint(
            model_name='flagarm',
            constraint=models.UniqueConstraint(fields=('flag', 'name'), name='arm_name_is_unique'),
        ),
        migrations.AddConstraint(
            model_name='flagarm',
            constraint=models.CheckConstraint(condition=models.Q(('position__lt', 10)), name='arm_is_one_of_ten'),
        ),
        migrations.AddConstraint(
            model_name='flagarm',
            constraint=models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='arm_has_a_name'),
        ),
        migrations.AddConstraint(
            model_name='flagarm',
            constraint=models.CheckConstraint(condition=models.Q(('weight__gte', 1), ('weight__lte', 1000)), name='arm_weight_is_between_1_and_1000'),
        ),
        migrations.AddConstraint(
            model_name='flagarm',
            constraint=models.CheckConstraint(condition=models.Q(('alpha_scale__isnull', True), models.Q(('alpha_scale__gte', 0), ('alpha_scale__lte', 10)), _connector='OR'), name='arm_alpha_scale_is_between_0_and_10'),
        ),
    ]
