"""Tenant: a customer whose requests may be steered."""

from collections.abc import Mapping, Sequence

from registry.manifests.accounts import InUse
from registry.manifests.fields import Spec, mapping, text
from registry.manifests.kind import Index, Kind, Writer
from registry.manifests.steps import CREATE, Recorded, Step
from registry.models import Kill, Role, Tenant, TenantFlag
from registry.services.tenants import create_tenant, delete_tenant, rename_tenant


class Tenants(Kind[Tenant, Index[Tenant]]):
    name = "Tenant"
    about = "A customer whose requests may be steered, and are not until a flag says so."
    roles = (Role.OPERATOR,)
    spec = mapping("The customer.", optional={"title": text("Its name for people.", max_length=200, min_length=0, default="")})
    model = Tenant
    index = Index[Tenant]

    def render(self, row: Tenant) -> Spec:
        return {"title": row.title}

    def write(self, step: Step, writer: Writer) -> None:
        write = create_tenant if step.action == CREATE else rename_tenant
        write(step.name, title=step.spec["title"], actor=writer.actor)

    def delete(self, step: Step, writer: Writer) -> None:
        delete_tenant(step.name, actor=writer.actor)

    def find_users(self, recorded: Mapping[str, Recorded[Tenant]], going: Sequence[Step]) -> Mapping[str, InUse]:
        rows = [found.row for found in recorded.values()]
        deleted = [step.recorded.row.pk for step in going if step.recorded and isinstance(step.recorded.row, TenantFlag)]
        flagged = TenantFlag.objects.filter(tenant__in=rows).exclude(pk__in=deleted).values_list("tenant__name", flat=True)
        killed = Kill.objects.filter(tenant__in=rows).values_list("tenant__name", flat=True)
        users = dict.fromkeys(killed, InUse("is named by kills, which stay on record"))
        return users | dict.fromkeys(flagged, InUse("has flags", is_active=True))
