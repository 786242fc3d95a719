"""What may steer in an environment now: live revisions, flags, kills, freezes and the newest snapshot."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from django.db.models import F, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now

from registry.models import (
    BaseModel,
    Environment,
    FlagArm,
    Freeze,
    Kill,
    ProfileRevision,
    RevisionState,
    Snapshot,
    TenantFlag,
    Unit,
)
from registry.reads.inheritance import Id, SettledFlag, SettledTenant, settle_tenants, text_of
from steernode.snapshot.content import KEPT_TENANTS


def flags_for(environment: Environment, base_model: BaseModel) -> QuerySet[TenantFlag]:
    """The flags that are on and offer a revision for these files, by themselves or in an arm."""
    of_arms = FlagArm.objects.filter(revision__base_model=base_model).values("flag")
    return TenantFlag.objects.filter(Q(revision__base_model=base_model) | Q(pk__in=of_arms), environment=environment, enabled=True)


def live_revisions(environment: Environment) -> QuerySet[ProfileRevision]:
    """The single rule of which revisions may steer in an environment: approved now, not overdue for review,
    inside the limits of its risk class, and for files that it serves now."""
    # One row at most: an environment serves one fingerprint of a name.
    return ProfileRevision.objects.filter(
        is_inside_its_limits(), state=RevisionState.APPROVED, review_due_at__gt=Now(), base_model__served_in__environment=environment
    )


def is_inside_its_limits() -> Q:
    """A revision that can go no further than its risk class allows now, whatever the class allowed when it was approved."""
    caps = {f"peak_{unit}__lte": F(f"profile__risk_class__alpha_cap_{unit}") for unit in Unit.values}
    return Q(**caps, peak_share__lte=F("profile__risk_class__composition_budget"))


class NamedRevision(NamedTuple):
    """What a snapshot says of a revision that a flag points at, and what its profile is checked by."""

    profile: str
    number: int
    digest: str
    evidence_digest: str


def name_revisions(revisions: QuerySet[ProfileRevision]) -> dict[Id | None, NamedRevision]:
    columns = (text_of("pk"), "profile__name", "number", "digest", "evaluation__digest")
    rows = revisions.order_by().values_list(*columns)
    return {key: NamedRevision(profile, number, digest, evidence or "") for key, profile, number, digest, evidence in rows}


@dataclass(frozen=True, slots=True, eq=False)
class CarriedTenant:
    """What a snapshot carries of one tenant.

    `named` are the revisions that its flags and arms point at, each once; `served` those of them that steer somebody.
    """

    flags: tuple[SettledFlag, ...]
    named: tuple[Id | None, ...]
    served: frozenset[Id | None]


@lru_cache(KEPT_TENANTS)
def carry_tenant(tenant: SettledTenant, live: frozenset[Id | None]) -> CarriedTenant:
    """What a snapshot carries of the tenant, where the revisions `live` of those that it wants may steer.

    The flags that steer, and each route that is off while its tenant's flag steers. A flag steers if it is on, one of its choices
    points at a revision that may steer, and its α scale is above zero or a request may ask for another α. Of an A/B test, an arm
    whose revision may steer no longer stays as a control.
    """
    carried, served = [], set()
    tenant_steers = False
    for flag in tenant.flags:
        flag = _silence_arms(flag, live)
        steering = {arm.revision_id for arm in flag.choices if arm.revision_id in live and (arm.alpha_scale or flag.override)}
        if flag.is_on and steering:
            carried.append(flag)
            served |= steering
            tenant_steers = tenant_steers or not flag.route
        elif flag.route and tenant_steers:
            carried.append(replace(flag, is_on=False))
    named = {flag.revision_id for flag in carried} | {arm.revision_id for flag in carried for arm in flag.arms}
    return CarriedTenant(tuple(carried), tuple(named), frozenset(served))


def _silence_arms(flag: SettledFlag, live: frozenset[Id | None]) -> SettledFlag:
    """The arms whose revision may not steer stay as controls at scale 0, so that nobody changes sides."""
    if all(arm.revision_id in live for arm in flag.arms):
        return flag
    arms = (arm if arm.revision_id in live else replace(arm, alpha_scale=Decimal(0)) for arm in flag.arms)
    return replace(flag, arms=tuple(arms))


def carried_tenants(
    environment: Environment, flags: QuerySet[TenantFlag] | None = None, *, without: Collection[Id | None] = ()
) -> tuple[list[CarriedTenant], dict[Id | None, NamedRevision]]:
    """What a snapshot carries, by tenant (see `carry_tenant`), and the revisions that steer there or could.

    With `flags`, of these tenants alone: all flags that they have in the environment.
    Revisions of `without` may not steer whatever the record says.
    """
    tenants = settle_tenants(environment.flags.all() if flags is None else flags)
    wanted = set[Id | None]().union(*[tenant.wanted for tenant in tenants])
    live = name_revisions(live_revisions(environment).filter(pk__in=_any_of(wanted)))
    may_steer = frozenset(live.keys() - set(without))
    # As it stands where all of it may: it knows its own hash.
    carried = [carry_tenant(tenant, tenant.wanted if tenant.wanted <= may_steer else tenant.wanted & may_steer) for tenant in tenants]
    return [tenant for tenant in carried if tenant.flags], live


def _any_of(ids: Collection[Id | None]) -> RawSQL:
    """These ids as one parameter, so that the query is the same one however many they are, and is planned once."""
    return RawSQL("SELECT unnest(%s::uuid[])", [list(ids)])


def live_flags(environment: Environment, flags: QuerySet[TenantFlag] | None = None) -> list[SettledFlag]:
    """What a snapshot carries, by tenant and route; with `flags` as for `carried_tenants`."""
    tenants, _ = carried_tenants(environment, flags)
    return [flag for tenant in tenants for flag in tenant.flags]


def flags_pointing_at(revision: ProfileRevision) -> QuerySet[TenantFlag]:
    """Flags that state this revision themselves or in an arm. Routes that inherit it from one of these are not counted again."""
    of_arms = FlagArm.objects.filter(revision=revision).values("flag")
    return TenantFlag.objects.filter(Q(revision=revision) | Q(pk__in=of_arms))


def engaged_kills(environment: Environment | None = None) -> QuerySet[Kill]:
    """Kills not lifted; with an environment, those that reach it."""
    kills = Kill.objects.filter(lifted_at__isnull=True).select_related("profile", "tenant", "environment")
    if environment is not None:
        kills = kills.filter(Q(environment__isnull=True) | Q(environment=environment))
    return kills


def freeze_in_force(environment: Environment, moment: datetime) -> Freeze | None:
    """The freeze that ends last, of those in force."""
    freezes = Freeze.objects.filter(environment=environment, starts_at__lte=moment, ends_at__gt=moment, ended_at__isnull=True)
    return freezes.select_related("environment").order_by("-ends_at").first()


def snapshots_of(environment: Environment) -> QuerySet[Snapshot]:
    """Newest first, without their payload, which is read only where the field is asked for."""
    return environment.snapshots.defer("payload_zlib").order_by("-revision")


def head_snapshot(environment: Environment) -> Snapshot | None:
    return snapshots_of(environment).first()
