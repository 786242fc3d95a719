"""Routes are kept in the one form in which requests' routes are compared: composed, and without a space at either end."""

from unicodedata import normalize

from django.core.management.base import CommandError
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps
from django.db.models.functions import Lower, Trim

COMPOSED_ROUTE = models.Func(models.F("route"), template="normalize(%(expressions)s, NFC)", output_field=models.TextField())


def spell_routes(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Two flags that come out as one are for a person to choose between: one of them may be off, and the other on."""
    flags = apps.get_model("registry", "TenantFlag").objects
    for flag in flags.exclude(route="").select_related("environment", "tenant"):
        route = normalize("NFC", flag.route).strip()
        if route == flag.route:
            continue
        if flags.filter(environment=flag.environment, tenant=flag.tenant, route=route).exists():
            where = f"{flag.environment.name}/{flag.tenant.name}"
            raise CommandError(f"{where} has flags of two routes that are one: {flag.route!r} and {route!r}. Delete the one that is wrong.")
        flags.filter(pk=flag.pk).update(route=route)


class Migration(migrations.Migration):
    dependencies = [("registry", "0004_never_emptied")]
    operations = [
        migrations.AddIndex(model_name="tenant", index=models.Index(Lower("name"), name="tenant_by_small_letters")),
        migrations.RunPython(spell_routes, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name="tenantflag",
            constraint=models.CheckConstraint(
                condition=models.Q(route=Trim(COMPOSED_ROUTE)),
                name="flag_route_is_in_its_one_form",
            ),
        ),
    ]
