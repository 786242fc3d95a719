"""What each flag comes to once a route has taken from its tenant's flag what it does not state itself.

The rule is short. A route's flag states a field or inherits it, field by field, and says itself whether it is on. The tenant's
flag is the main switch: while it is off, every route of the tenant is off. A route of a tenant that has no flag stands alone.

So a tenant is settled by itself. Of thousands of tenants a change touches one, and what was made of the others is kept under the
stamps of their flags: the database draws a new one with every write of a flag or of its arms.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from operator import itemgetter
from typing import Any, NamedTuple

from django.contrib.postgres.aggregates import JSONBAgg
from django.db.models import Aggregate, BigIntegerField, Func, OuterRef, QuerySet, Subquery, TextField
from django.db.models.functions import Cast

from registry.models import FlagArm, FlagField, TenantFlag
from steernode.snapshot.content import KEPT_TENANTS
from steernode.snapshot.records import AlphaBounds

# By tenant and stamp.
_kept: dict[tuple[str, str], "SettledTenant"] = {}
# Ids are text here. A snapshot looks thousands of them up, and a UUID is slow to make, to hash and to compare.
Id = str


class _StatedFlag(NamedTuple):
    """A row, in the order of its columns."""

    route: str
    pk: Id
    enabled: bool
    inherits: list[str]
    revision_id: Id | None
    alpha_scale: Decimal | None
    rollout: Decimal | None
    override_min: Decimal | None
    override_max: Decimal | None
    # As lists of the columns of `_StatedArm`, in their order; None for no arms.
    arms: list[list[Any]] | None


class _StatedArm(NamedTuple):
    name: str
    weight: int
    revision_id: Id | None
    alpha_scale: Decimal | None


def text_of(name: str) -> Cast:
    """A column as text, made by the database."""
    return Cast(name, TextField())


# One stamp for all rows of a tenant: they are drawn at random, so that another row among them makes another stamp.
_STAMP = Cast(Aggregate("stamp", function="bit_xor", output_field=BigIntegerField()), TextField())
# All rows of a tenant with their arms, as JSON.
_ARMS = (
    FlagArm.objects.filter(flag=OuterRef("pk"))
    .order_by()
    .values("flag")
    .values(arms=JSONBAgg(Func(*_StatedArm._fields, function="jsonb_build_array"), order_by="position"))
)
_ROW = Func(*(name for name in _StatedFlag._fields if name != "arms"), Subquery(_ARMS), function="json_build_array")
_STATED = Cast(Aggregate(_ROW, function="json_agg", output_field=TextField()), TextField())


@dataclass(frozen=True, slots=True)
class SettledArm:
    """One side of an A/B test, with what it leaves open filled in by its flag."""

    name: str
    weight: int
    revision_id: Id | None
    alpha_scale: Decimal


@dataclass(frozen=True, slots=True, eq=False)
class SettledFlag:
    """A flag with nothing left open. `is_on` counts the tenant's main switch. `inherited` names what came from the tenant's flag.

    `revision_id` is None only for a flag that inherits from nothing, which is never on.
    """

    flag_id: Id
    tenant: str
    route: str
    is_on: bool
    revision_id: Id | None
    alpha_scale: Decimal
    rollout: Decimal
    arms: tuple[SettledArm, ...]
    override: AlphaBounds | None
    inherited: tuple[str, ...] = ()
    # The arms, or the flag itself as the only one.
    choices: tuple[SettledArm, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", self.arms or (SettledArm("", 1, self.revision_id, self.alpha_scale),))


@dataclass(frozen=True, slots=True, eq=False)
class SettledTenant:
    """The flags of one tenant in one environment, by route; its own, whose route is empty, is the first.

    `wanted` are the revisions that it would steer with: of all choices of the flags that are on.
    """

    flags: tuple[SettledFlag, ...]
    wanted: frozenset[Id | None]


def settle_tenants(flags: QuerySet[TenantFlag]) -> list[SettledTenant]:
    """These flags of one environment, by tenant. Filter by tenant only: a route's flag must come together with its tenant's."""
    settled, unknown = {}, []
    for key in flags.order_by().values_list("tenant__name").annotate(stamp=_STAMP):
        if kept := _kept.get(key):
            settled[key[0]] = kept
        else:
            unknown.append(key[0])
    if unknown:
        settled |= settle_anew(flags.filter(tenant__name__in=unknown) if settled else flags)
    # Sorted here, because the order of a document must not depend on the database's collation.
    return [settled[tenant] for tenant in sorted(settled)]


def settle_anew(flags: QuerySet[TenantFlag]) -> dict[str, SettledTenant]:
    """As `settle_tenants`, from their rows. For tenants of whom nothing is kept, such as one that was changed just now."""
    rows = list(flags.order_by().values_list("tenant__name").annotate(stamp=_STAMP, stated=_STATED))
    if len(_kept) + len(rows) > KEPT_TENANTS:
        _kept.clear()
    settled = {}
    for tenant, stamp, stated in rows:
        settled[tenant] = _kept[tenant, stamp] = _settle_tenant(tenant, stated)
    return settled


def settle_flags(flags: QuerySet[TenantFlag]) -> list[SettledFlag]:
    """These flags of one environment, by tenant and route; chosen as for `settle_tenants`."""
    return [flag for tenant in settle_tenants(flags) for flag in tenant.flags]


def _settle_tenant(tenant: str, stated: str) -> SettledTenant:
    rows = sorted((_StatedFlag(*row) for row in json.loads(stated, parse_float=Decimal, parse_int=Decimal)), key=itemgetter(0))
    of_tenant: SettledFlag | None = None
    arms_of_tenant = None
    settled = []
    for row in rows:
        # An arm leaves open what its flag says: for an inherited arm too, that is what this flag comes to.
        arms = arms_of_tenant if of_tenant and FlagField.ARMS in row.inherits else row.arms
        flag = _settle(tenant, row, of_tenant, [_StatedArm(*arm) for arm in arms or ()])
        if not flag.route:
            of_tenant, arms_of_tenant = flag, row.arms
        settled.append(flag)
    wanted = frozenset(arm.revision_id for flag in settled if flag.is_on for arm in flag.choices)
    return SettledTenant(tuple(settled), wanted)


def _settle(tenant: str, stated: _StatedFlag, of_tenant: SettledFlag | None, arms: Iterable[_StatedArm]) -> SettledFlag:
    """`of_tenant` is the tenant's flag, for the flag of a route."""
    inherited = tuple(name for name in FlagField.values if name in stated.inherits)

    def pick(field: FlagField, own: Any, of_tenant_flag: Any, nothing: Any) -> Any:
        """What the flag states, or what the tenant's has. With nothing to inherit from, nothing is left that could steer."""
        if field not in inherited:
            return own
        return of_tenant_flag if of_tenant else nothing

    bounds = None
    if stated.override_min is not None and stated.override_max is not None:
        bounds = AlphaBounds(stated.override_min, stated.override_max)
    revision_id = pick(FlagField.REVISION, stated.revision_id, of_tenant and of_tenant.revision_id, None)
    alpha_scale = pick(FlagField.ALPHA_SCALE, stated.alpha_scale, of_tenant and of_tenant.alpha_scale, Decimal(0))
    return SettledFlag(
        flag_id=stated.pk,
        tenant=tenant,
        route=stated.route,
        is_on=stated.enabled and (of_tenant is None or of_tenant.is_on) and revision_id is not None,
        revision_id=revision_id,
        alpha_scale=alpha_scale,
        rollout=pick(FlagField.ROLLOUT, stated.rollout, of_tenant and of_tenant.rollout, Decimal(0)),
        arms=tuple(
            SettledArm(
                arm.name,
                int(arm.weight),
                arm.revision_id or revision_id,
                alpha_scale if arm.alpha_scale is None else arm.alpha_scale,
            )
            for arm in arms
        ),
        override=pick(FlagField.OVERRIDE, bounds, of_tenant and of_tenant.override, None),
        inherited=inherited,
    )
