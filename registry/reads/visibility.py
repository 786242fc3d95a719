"""Which tenants somebody sees. The one place where a limit to tenants is applied: what is outside it does not exist.

Views and pages pass every look at a tenant, or at a record that belongs to one, through here.
"""

from typing import TypeVar

from django.db.models import Model, Q, QuerySet

from registry.models import AuditEvent, Kill, KillKind, Tenant, User

Record = TypeVar("Record", bound=Model)


def is_limited(user: User) -> bool:
    return user.visible_tenants is not None


def visible_to(user: User, records: QuerySet[Record], *, tenant: str = "tenant", shared: bool = False) -> QuerySet[Record]:
    """Those of the records that belong to a tenant that the user sees.

    `tenant` is the path from a record to its tenant's id. With `shared`, records of no tenant are visible too.
    """
    if user.visible_tenants is None:
        return records
    seen = Q(**{f"{tenant}__in": user.visible_tenants})
    return records.filter(seen | Q(**{f"{tenant}__isnull": True}) if shared else seen)


def kills_visible_to(user: User, kills: QuerySet[Kill]) -> QuerySet[Kill]:
    """Those of tenants that the user sees, and of what belongs to no tenant. One of a tenant that is not on record is for others."""
    if is_limited(user):
        kills = kills.exclude(kind=KillKind.TENANT, tenant__isnull=True)
    return visible_to(user, kills, shared=True)


def events_visible_to(user: User, events: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
    """An audit event names its tenant; one without may be about several, so it is for those who see all of them."""
    if user.visible_tenants is None:
        return events
    return events.filter(tenant__in=visible_to(user, Tenant.objects.all(), tenant="pk").values("name"))
