"""Inheritance: what each tenant flag says once the flag of a route has its tenant's for whatever it does not state itself.

The rule is `inherit_flag`, for rows and for manifests alike. A route's flag states a field or inherits it, field by field, and says
itself whether it is on. The tenant's flag is the main switch: while it is off, every route of the tenant is off. A route of a tenant
that has no flag stands alone.

So tenants do not depend on each other. Of thousands of them a change touches one, and what was read of the others is kept under the
stamps of their flags: the database draws a new one with every write of a flag or of its arms.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

from django.contrib.postgres.aggregates import JSONBAgg
from django.db.models import Aggregate, BigIntegerField, Func, OuterRef, QuerySet, Subquery, TextField
from django.db.models.functions import Cast

from registry.models import FlagArm, FlagField, TenantFlag
from steernode.snapshot.content import KEPT_TENANTS
from steernode.snapshot.records import AlphaBounds

# By tenant and stamp; `registry.snapshots.compile` lists all that is kept.
_kept: dict[tuple[str, str], "FlagsOfTenant"] = {}
# Ids are text here. A snapshot looks thousands of them up, and a UUID is slow to make, to hash and to compare.
Id = str
# What names a revision: its id in a row, its profile and number in a manifest.
Key = TypeVar("Key")


class StatedArm(NamedTuple, Generic[Key]):
    """One side of an A/B test. What is None, it has from its flag."""

    name: str
    weight: int
    revision_id: Key | None
    alpha_scale: Decimal | None


class StatedFlag(NamedTuple, Generic[Key]):
    """What a flag itself says: a row, in the order of its columns, or a manifest. What it inherits is not looked at."""

    enabled: bool
    inherits: Collection[str]
    revision_id: Key | None
    alpha_scale: Decimal | None
    rollout: Decimal | None
    override_min: Decimal | None
    override_max: Decimal | None
    arms: Sequence[StatedArm[Key]]
    route: str = ""
    pk: Id = ""
    rollout_salt: str = ""
    arms_salt: str = ""


# What there is to inherit where a tenant has no flag: nothing that could steer.
_NOTHING: StatedFlag[Any] = StatedFlag(False, (), None, None, None, None, None, ())


@dataclass(frozen=True, slots=True)
class InheritedArm(Generic[Key]):
    """One side of an A/B test, with what it leaves open filled in by its flag."""

    name: str
    weight: int
    revision_id: Key | None
    alpha_scale: Decimal


@dataclass(frozen=True, slots=True, eq=False)
class InheritedFlag(Generic[Key]):
    """A flag with nothing left open. `is_on` counts the tenant's main switch. `inherited` names what came from the tenant's flag.

    `revision_id` is None only for a flag that inherits from nothing, which is never on.
    """

    is_on: bool
    revision_id: Key | None
    alpha_scale: Decimal
    rollout: Decimal
    arms: tuple[InheritedArm[Key], ...]
    override: AlphaBounds | None
    inherited: tuple[str, ...] = ()
    tenant: str = ""
    route: str = ""
    flag_id: Id = ""
    rollout_salt: str = ""
    arms_salt: str = ""
    # The arms, or the flag itself as the only one.
    choices: tuple[InheritedArm[Key], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", self.arms or (InheritedArm("", 1, self.revision_id, self.alpha_scale),))

    @property
    def offered(self) -> set[Key | None]:
        """The revisions that it steers by while it is on: at α scale 0 only those that a request may ask another α of."""
        return {arm.revision_id for arm in self.choices if arm.alpha_scale or self.override}

    @property
    def steers(self) -> bool:
        """Whether it steers somebody, if what it offers may steer."""
        return self.is_on and bool(self.offered)


def inherit_flag(stated: StatedFlag[Key], of_tenant: StatedFlag[Key] | None, *, tenant: str = "") -> InheritedFlag[Key]:
    """A flag with nothing left open; `of_tenant` is the tenant's flag, for the flag of a route.

    An arm leaves open what its flag says: for an inherited arm too that is what this flag says, and not the tenant's.
    """

    def source(name: FlagField) -> StatedFlag[Key]:
        return stated if name not in stated.inherits else of_tenant or _NOTHING

    revision_id = source(FlagField.REVISION).revision_id
    alpha_scale = source(FlagField.ALPHA_SCALE).alpha_scale or Decimal(0)
    bounds = source(FlagField.OVERRIDE)
    override = None
    if bounds.override_min is not None and bounds.override_max is not None:
        override = AlphaBounds(bounds.override_min, bounds.override_max)
    return InheritedFlag(
        is_on=stated.enabled and (of_tenant is None or of_tenant.enabled) and revision_id is not None,
        revision_id=revision_id,
        alpha_scale=alpha_scale,
        rollout=source(FlagField.ROLLOUT).rollout or Decimal(0),
        arms=tuple(
            InheritedArm(
                arm.name, int(arm.weight), arm.revision_id or revision_id, alpha_scale if arm.alpha_scale is None else arm.alpha_scale
            )
            for arm in source(FlagField.ARMS).arms
        ),
        override=override,
        inherited=tuple(name for name in FlagField.values if name in stated.inherits),
        tenant=tenant,
        route=stated.route,
        flag_id=stated.pk,
        # With what they are of: callers stand alike wherever it is inherited.
        rollout_salt=source(FlagField.ROLLOUT).rollout_salt,
        arms_salt=source(FlagField.ARMS).arms_salt,
    )


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
    .values(arms=JSONBAgg(Func(*StatedArm._fields, function="jsonb_build_array"), order_by="position"))
)
_ROW = Func(*(Subquery(_ARMS) if name == "arms" else name for name in StatedFlag._fields), function="json_build_array")
_STATED = Cast(Aggregate(_ROW, function="json_agg", output_field=TextField()), TextField())


@dataclass(frozen=True, slots=True, eq=False)
class FlagsOfTenant:
    """The flags of one tenant in one environment, by route; its own, whose route is empty, is the first.

    `wanted` are the revisions that it would steer with: of all choices of the flags that are on.
    """

    flags: tuple[InheritedFlag[Id], ...]
    wanted: frozenset[Id | None]

    def flag_for(self, route: str) -> InheritedFlag[Id] | None:
        """As `Snapshot.flag_for`, whether or not a snapshot lists it."""
        return next((flag for flag in reversed(self.flags) if flag.route in ("", route)), None)


def read_tenants(flags: QuerySet[TenantFlag]) -> list[FlagsOfTenant]:
    """These flags of one environment, by tenant. Filter by tenant only: a route's flag must come together with its tenant's."""
    found, unknown = {}, []
    for key in flags.order_by().values_list("tenant__name").annotate(stamp=_STAMP):
        if kept := _kept.get(key):
            found[key[0]] = kept
        else:
            unknown.append(key[0])
    if unknown:
        found |= read_tenants_anew(flags.filter(tenant__name__in=unknown) if found else flags)
    # Sorted here, because the order of a document must not depend on the database's collation.
    return [found[tenant] for tenant in sorted(found)]


def read_tenants_anew(flags: QuerySet[TenantFlag]) -> dict[str, FlagsOfTenant]:
    """As `read_tenants`, from their rows. For tenants of whom nothing is kept, such as one that was changed just now."""
    rows = list(flags.order_by().values_list("tenant__name").annotate(stamp=_STAMP, stated=_STATED))
    if len(_kept) + len(rows) > KEPT_TENANTS:
        _kept.clear()
    found = {}
    for tenant, stamp, stated in rows:
        found[tenant] = _kept[tenant, stamp] = _inherit_tenant(tenant, stated)
    return found


def read_flags(flags: QuerySet[TenantFlag]) -> list[InheritedFlag[Id]]:
    """These flags of one environment, by tenant and route; chosen as for `read_tenants`."""
    return [flag for tenant in read_tenants(flags) for flag in tenant.flags]


def _inherit_tenant(tenant: str, rows: str) -> FlagsOfTenant:
    stated = sorted((_read_row(row) for row in json.loads(rows, parse_float=Decimal, parse_int=Decimal)), key=attrgetter("route"))
    of_tenant = None if stated[0].route else stated[0]
    flags = tuple(inherit_flag(each, of_tenant if each.route else None, tenant=tenant) for each in stated)
    return FlagsOfTenant(flags, frozenset(arm.revision_id for flag in flags if flag.is_on for arm in flag.choices))


def _read_row(row: list[Any]) -> StatedFlag[Id]:
    stated: StatedFlag[Id] = StatedFlag(*row)
    return stated._replace(arms=[StatedArm(*arm) for arm in stated.arms or ()])
