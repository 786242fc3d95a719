"""What a new registry holds: the five roles, and the three risk policies that every registry starts with."""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

ROLES = ["author", "approver", "operator", "auditor", "admin"]
POLICIES = {
    "low": {"gate_set": "selection", "approvals_needed": 1, "evidence_max_age_days": 365, "review_after_days": 365},
    "medium": {"gate_set": "default", "approvals_needed": 1, "evidence_max_age_days": 180, "review_after_days": 180},
    "high": {"gate_set": "default", "approvals_needed": 2, "evidence_max_age_days": 90, "review_after_days": 90},
}
# Each class begins with the outermost limits.
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


def create(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for name in ROLES:
        apps.get_model("auth", "Group").objects.get_or_create(name=name)
    for name, terms in POLICIES.items():
        apps.get_model("registry", "RiskPolicy").objects.create(name=name, **COMMON, **terms)


def delete(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("registry", "RiskPolicy").objects.filter(name__in=POLICIES).delete()
    apps.get_model("auth", "Group").objects.filter(name__in=ROLES).delete()


class Migration(migrations.Migration):
    dependencies = [("registry", "0002_guards")]
    operations = [migrations.RunPython(create, delete)]
