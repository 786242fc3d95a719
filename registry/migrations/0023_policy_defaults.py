"""What the three risk policies that came with the registry demand and allow, where nobody has used or changed them yet.

All three had the outermost caps and were content with two pairs. A registry in use keeps its own: what was approved under a policy is
not put beyond its limits by an upgrade.
"""

from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

CAPS = ("alpha_cap_absolute", "alpha_cap_mean_difference", "alpha_cap_residual")
BEFORE = dict(zip((*CAPS, "minimum_pairs"), ("1000", "2", "1", 2), strict=True))
SHIPPED = {
    "low": dict(zip((*CAPS, "minimum_pairs"), ("1000", "2", "1", 50), strict=True)),
    "medium": dict(zip((*CAPS, "minimum_pairs"), ("500", "1.5", "0.5", 200), strict=True)),
    "high": dict(zip((*CAPS, "minimum_pairs"), ("250", "1", "0.25", 500), strict=True)),
}


def ship(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    _replace(apps, {name: (BEFORE, terms) for name, terms in SHIPPED.items()})


def withdraw(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    _replace(apps, {name: (terms, BEFORE) for name, terms in SHIPPED.items()})


def _replace(apps: StateApps, terms: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for name, (old, new) in terms.items():
        if not apps.get_model("registry", "Profile").objects.filter(risk_class__name=name).exists():
            apps.get_model("registry", "RiskPolicy").objects.filter(name=name, changed_by=None, **old).update(**new)


class Migration(migrations.Migration):
    dependencies = [("registry", "0022_job_notices")]
    operations = [migrations.RunPython(ship, withdraw)]
