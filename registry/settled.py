"""What each flag comes to once a route has taken from its tenant's flag what it does not state itself.

The rule is short. A route's flag states a field or inherits it, field by field, and says itself whether it is on. The tenant's
flag is the main switch: while it is off, every route of the tenant is off. A route of a tenant that has no flag stands alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast

from registry.models import FlagArm, FlagField, TenantFlag
from steerkit.snapshotrecords import AlphaBounds

_KEPT_FLAGS = 2**16
# Ids are text here. A snapshot looks thousands of them up, and a UUID is slow to make, to hash and to compare.
Id = str
# A name, a weight, and what the arm states itself: its revision and its α scale.
_StatedArm = tuple[str, int, Id | None, Decimal | None]


class _StatedFlag(NamedTuple):
    """A row, in the order of its columns. All of them can be hashed, so that a row is the key to what was made of it before."""

    environment_id: Id
    tenant__name: str
    route: str
    pk: Id
    enabled: bool
    # As PostgreSQL writes an array: {rollout,arms}
    inherits: str
    revision_id: Id | None
    alpha_scale: Decimal | None
    rollout: Decimal | None
    override_min: Decimal | None
    override_max: Decimal | None


def text_of(name: str) -> Cast:
    """A column as text, made by the database."""
    return Cast(name, TextField())


_AS_TEXT = ("environment_id", "pk", "inherits", "revision_id")
_COLUMNS = [text_of(name) if name in _AS_TEXT else name for name in _StatedFlag._fields]


@dataclass(frozen=True, slots=True)
class SettledArm:
    """One side of an A/B test, with what it leaves open filled in by its flag. `selectors.live_flags` says which may steer."""

    name: str
    weight: int
    revision_id: Id | None
    alpha_scale: Decimal
    is_live: bool = True


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


def settle_flags(flags: QuerySet[TenantFlag]) -> list[SettledFlag]:
    """These flags by tenant and route. A route's flag must come together with its tenant's: filter by environment and tenant only."""
    arms = _read_arms(flags)
    # Sorted here, because the order of a document must not depend on the database's collation.
    rows = sorted(flags.order_by().values_list(*_COLUMNS), key=itemgetter(0, 1, 2))
    tenants_flags: dict[tuple[Id, str], SettledFlag] = {}
    settled = []
    for row in rows:
        environment_id, tenant, route, pk, _, inherits = row[:6]
        parent = tenants_flags.get((environment_id, tenant)) if route else None
        # An arm leaves open what its flag says: for an inherited arm too, that is what this flag comes to.
        stated_arms = arms.get(parent.flag_id if parent and FlagField.ARMS in _read_array(inherits) else pk, ()) if arms else ()
        flag = _settle(row, parent, stated_arms)
        if not route:
            tenants_flags[environment_id, tenant] = flag
        settled.append(flag)
    return settled


def _read_array(text: str) -> list[str]:
    """An array of names without commas or quotes."""
    return text.strip("{}").split(",")


def _read_arms(flags: QuerySet[TenantFlag]) -> Mapping[Id, tuple[_StatedArm, ...]]:
    found: dict[Id, tuple[_StatedArm, ...]] = {}
    arms = FlagArm.objects.filter(flag__in=flags.order_by().values("pk")).order_by("flag_id", "position")
    for flag_id, name, weight, revision_id, alpha_scale in arms.values_list(
        text_of("flag_id"), "name", "weight", text_of("revision_id"), "alpha_scale"
    ):
        found[flag_id] = (*found.get(flag_id, ()), (name, weight, revision_id, alpha_scale))
    return found


@lru_cache(_KEPT_FLAGS)
def _settle(row: tuple[Any, ...], parent: SettledFlag | None, arms: tuple[_StatedArm, ...]) -> SettledFlag:
    """`parent` is the tenant's flag, for the flag of a route. Kept, because of thousands of flags a change touches one."""
    stated = _StatedFlag(*row)
    inherited = tuple(name for name in FlagField.values if name in _read_array(stated.inherits))

    def pick(field: FlagField, own: Any, of_tenant: Any, nothing: Any) -> Any:
        """What the flag states, or what the tenant's has. With nothing to inherit from, nothing is left that could steer."""
        if field not in inherited:
            return own
        return of_tenant if parent else nothing

    bounds = None
    if stated.override_min is not None and stated.override_max is not None:
        bounds = AlphaBounds(stated.override_min, stated.override_max)
    revision_id = pick(FlagField.REVISION, stated.revision_id, parent and parent.revision_id, None)
    alpha_scale = pick(FlagField.ALPHA_SCALE, stated.alpha_scale, parent and parent.alpha_scale, Decimal(0))
    return SettledFlag(
        flag_id=stated.pk,
        tenant=stated.tenant__name,
        route=stated.route,
        is_on=stated.enabled and (parent is None or parent.is_on) and revision_id is not None,
        revision_id=revision_id,
        alpha_scale=alpha_scale,
        rollout=pick(FlagField.ROLLOUT, stated.rollout, parent and parent.rollout, Decimal(0)),
        arms=tuple(
            SettledArm(name, weight, own_revision or revision_id, alpha_scale if own_scale is None else own_scale)
            for name, weight, own_revision, own_scale in arms
        ),
        override=pick(FlagField.OVERRIDE, bounds, parent and parent.override, None),
        inherited=inherited,
    )


@lru_cache(_KEPT_FLAGS)
def turn_off(flag: SettledFlag) -> SettledFlag:
    return replace(flag, is_on=False)


@lru_cache(_KEPT_FLAGS)
def silence_arms(flag: SettledFlag, revision_ids: frozenset[Id | None]) -> SettledFlag:
    """The arms that point at these revisions stay as controls at scale 0, so that nobody changes sides."""
    arms = (replace(arm, alpha_scale=Decimal(0), is_live=False) if arm.revision_id in revision_ids else arm for arm in flag.arms)
    return replace(flag, arms=tuple(arms))
