"""Risk policies, and the three that every registry starts with."""

import uuid

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

import registry.models.fields

# The limits are those that held for every class before there were policies, and so are the approvals.
POLICIES = {
    "low": {"gate_set": "selection", "approvals_needed": 1, "evidence_max_age_days": 365, "review_after_days": 365},
    "medium": {"gate_set": "default", "approvals_needed": 1, "evidence_max_age_days": 180, "review_after_days": 180},
    "high": {"gate_set": "default", "approvals_needed": 2, "evidence_max_age_days": 90, "review_after_days": 90},
}
COMMON = {
    "alpha_cap_absolute": "1000",
    "alpha_cap_mean_difference": "2",
    "alpha_cap_residual": "1",
    "composition_budget": "1",
    "suite_kinds": ["behaviour", "factual", "safety"],
    "minimum_pairs": 2,
    "reviewer_roles": ["approver"],
    "approval_valid_days": 30,
    "reason": "Came with the registry.",
}


def create_policies(apps, schema_editor):
    policies = apps.get_model("registry", "RiskPolicy").objects
    for name, terms in POLICIES.items():
        policies.create(name=name, **COMMON, **terms)


class Migration(migrations.Migration):
    dependencies = [("registry", "0005_notifications")]
    operations = [
        migrations.CreateModel(
            name='RiskPolicy',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('name', models.SlugField(unique=True)),
                ('alpha_cap_absolute', registry.models.fields.CoefficientField(decimal_places=6, max_digits=12)),
                ('alpha_cap_mean_difference', registry.models.fields.CoefficientField(decimal_places=6, max_digits=12)),
                ('alpha_cap_residual', registry.models.fields.CoefficientField(decimal_places=6, max_digits=12)),
                ('composition_budget', registry.models.fields.CoefficientField(decimal_places=6, max_digits=12)),
                ('suite_kinds', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=10), size=None)),
                ('gate_set', models.CharField(max_length=50)),
                ('minimum_pairs', models.PositiveIntegerField()),
                ('locales', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=35), blank=True, default=list, size=None)),
                ('evidence_max_age_days', models.PositiveIntegerField()),
                ('approvals_needed', models.PositiveSmallIntegerField()),
                ('reviewer_roles', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=150), size=None)),
                ('approval_valid_days', models.PositiveIntegerField()),
                ('review_after_days', models.PositiveIntegerField()),
                ('reason', models.TextField(max_length=2000)),
                ('changed_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('changed_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'verbose_name_plural': 'risk policies',
                'ordering': ['name'],
            },
        ),
        migrations.AddConstraint(
            model_name='riskpolicy',
            constraint=models.CheckConstraint(condition=models.Q(('alpha_cap_absolute__gte', 0), ('alpha_cap_absolute__lte', '1000'), ('alpha_cap_mean_difference__gte', 0), ('alpha_cap_mean_difference__lte', '2'), ('alpha_cap_residual__gte', 0), ('alpha_cap_residual__lte', '1')), name='policy_caps_stay_inside_the_outermost_ones'),
        ),
        migrations.AddConstraint(
            model_name='riskpolicy',
            constraint=models.CheckConstraint(condition=models.Q(('composition_budget__gte', 0), ('composition_budget__lte', 10)), name='policy_budget_is_a_share'),
        ),
        migrations.AddConstraint(
            model_name='riskpolicy',
            constraint=models.CheckConstraint(condition=models.Q(('suite_kinds__contained_by', ['behaviour', 'factual', 'safety', 'fluency', 'capability'])), name='policy_suite_kinds_are_known'),
        ),
        migrations.AddConstraint(
            model_name='riskpolicy',
            constraint=models.CheckConstraint(condition=models.Q(('gate_set', ''), _negated=True), name='policy_names_a_gate_set'),
        ),
        migrations.AddConstraint(
            model_name='riskpolicy',
            constraint=models.CheckConstraint(condition=models.Q(('minimum_pairs__gte', 2)), name='policy_wants_two_pairs'),
        ),
        migrations.AddConstraint(
            model_name='riskpolicy',
            constraint=models.CheckConstraint(condition=models.Q(('approvals_needed__gte', 1)), name='policy_needs_an_approval'),
        ),
        migrations.AddConstraint(
            model_name='riskpolicy',
            constraint=models.CheckConstraint(condition=models.Q(('reviewer_roles__len__gte', 1)), name='policy_names_a_reviewer_role'),
        ),
        migrations.AddConstraint(
            model_name='riskpolicy',
            constraint=models.CheckConstraint(condition=models.Q(('approval_valid_days__gte', 1), ('evidence_max_age_days__gte', 1), ('review_after_days__gte', 1)), name='policy_periods_are_at_least_a_day'),
        ),
        migrations.RunPython(create_policies, migrations.RunPython.noop),
    ]
