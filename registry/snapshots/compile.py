"""The content of a snapshot: what nodes of one environment are to know. The same record compiles to the same content.

`_write_profile` and `_describe_flag` are each the one place to which a new field of their noun is added.

Of thousands of tenants a change touches one. So what is made of the record on the way to the signed bytes is made once in a process,
and kept under all that it was made of (ADR 8). These are all the caches there are. None is ever invalidated: another record is another key.

| what is kept | under |
| --- | --- |
| the flags of a tenant, after inheritance: `reads.inheritance._kept` | the tenant and the stamps of its flags, drawn anew by every write |
| which of them a snapshot lists: `_list_tenant` | these flags, and which of the revisions they want may steer |
| their bytes and records: `_write_flags` | what is listed, and what the snapshot says of the revisions that it names |
| that these fit profiles and limits: `content._check_tenant` | these bytes, and the entries of the profiles and of the limits |
| the entry of a profile: `_write_profile` | the revision, its digest and that of its evidence |
| the entry of the limits: `content._keep_limits` | its bytes |
| a published snapshot, read back, and how many of its flags steer: `read` | its row and its tag, which holds a digest of what is signed |

Which revisions may steer, limits and base models are read every time. `content` is that of `steernode.snapshot`, whose
`KEPT_TENANTS` bounds what is kept of tenants.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from registry.models import Environment, ProfileRevision, RiskPolicy, Tenant, TenantFlag
from registry.reads.documents import is_as_approved, revision_document
from registry.reads.inheritance import FlagsOfTenant, Id, InheritedFlag, read_tenants, text_of
from registry.reads.steering import live_revisions, served_in
from steernode.canonical import format_decimal
from steernode.snapshot.content import (
    KEPT_TENANTS,
    Content,
    Entry,
    TenantEntry,
    write_base_model,
    write_flags,
    write_limits,
    write_profile,
)
from steernode.snapshot.records import Profile, required_capabilities
from steernode.words import ALPHA_CAPS, EVERYBODY, MAX_COMPONENTS

logger = logging.getLogger(__name__)
# What a snapshot says of a revision in the words of the document that was approved.
_AS_APPROVED = ("base_model", "risk_class", "stale_policy", "max_staleness_seconds", "components", "safety_override", "template_arguments")

_KEPT_PROFILES = 2**12


class NotAsApproved(Exception):
    """A revision is not what its digest was taken of."""


class NamedRevision(NamedTuple):
    """What a snapshot says of a revision that a flag points at, and what its profile is checked by."""

    profile: str
    number: int
    digest: str
    evidence_digest: str


@dataclass(frozen=True, slots=True, eq=False)
class ListedTenant:
    """The flags of one tenant that a snapshot lists.

    `named` are the revisions that these flags and their arms point at, each once; `served` those of them that steer somebody.
    """

    flags: tuple[InheritedFlag[Id], ...]
    named: tuple[Id | None, ...]
    served: frozenset[Id | None]


def compile_content(environment: Environment, *, of: Tenant | None = None, without: frozenset[Id | None] = frozenset()) -> Content:
    """The content of the environment's next snapshot, or what of it is `of` one tenant. What does not steer is left out: see
    `_list_tenant`.

    A revision that is not what its digest was taken of is left out too, and loudly. It must not keep an off switch from being published.
    """
    flags = environment.flags.filter(tenant=of) if of else environment.flags.all()
    tenants, revisions = _list_tenants(environment, flags, without)
    # A control, or a route that is off, may name what may not steer.
    unknown = set().union(*[tenant.named for tenant in tenants]) - revisions.keys()
    if unknown:
        revisions |= _name_revisions(ProfileRevision.objects.filter(pk__in=unknown))
    written: list[Entry[Profile]] = []
    altered = set()
    for key in set().union(*[tenant.served for tenant in tenants]):
        try:
            written.append(_write_profile(key, revisions[key].digest, revisions[key].evidence_digest))
        except NotAsApproved:
            altered.add(key)
    if altered:
        logger.error("not what was approved, and left out of %s: %s", environment, sorted(revisions[key][:2] for key in altered))
        return compile_content(environment, of=of, without=without | altered)
    profiles = sorted(written, key=lambda entry: (entry.record.id, entry.record.revision))
    return Content(
        # What the environment serves now: a node whose files are none of these refuses the snapshot, and steers nobody.
        base_models=[
            write_base_model({name: value for name, value in row.items() if value})
            for row in served_in(environment).order_by("name").values("name", "fingerprint", "architecture_digest", "behaviour")
        ],
        profiles=profiles,
        tenants=[_write_flags(tenant, tuple([revisions[key] for key in tenant.named])) for tenant in tenants],
        limits=write_limits({"max_components": MAX_COMPONENTS, "alpha_cap": ALPHA_CAPS, **_limit_classes(profiles)}),
        capabilities=required_capabilities(entry.record for entry in profiles),
    )


def _list_tenants(
    environment: Environment, flags: QuerySet[TenantFlag], without: Collection[Id | None]
) -> tuple[list[ListedTenant], dict[Id | None, NamedRevision]]:
    """Tenants with something to list, and the revisions that steer there or could; those of `without` may not, whatever the record says."""
    tenants = read_tenants(flags)
    wanted = set[Id | None]().union(*[tenant.wanted for tenant in tenants])
    live = _name_revisions(live_revisions(environment).filter(pk__in=_any_of(wanted)))
    may_steer = frozenset(live.keys() - set(without))
    # The tenant's own set wherever all of it may steer: a frozenset remembers its hash, and another of the same ids would take it anew.
    listed = [_list_tenant(tenant, tenant.wanted if tenant.wanted <= may_steer else tenant.wanted & may_steer) for tenant in tenants]
    return [tenant for tenant in listed if tenant.flags], live


@lru_cache(KEPT_TENANTS)
def _list_tenant(tenant: FlagsOfTenant, live: frozenset[Id | None]) -> ListedTenant:
    """What a snapshot lists of the tenant, where the revisions `live` of those that it wants may steer.

    The flags that steer, and each route that is off while its tenant's flag steers. A flag steers if it is on and one of the
    revisions that it offers may steer. Of an A/B test, an arm whose revision may steer no longer stays as a control.
    """
    listed, served = [], set()
    tenant_steers = False
    for flag in tenant.flags:
        flag = _turn_into_controls(flag, live)
        steering = flag.offered & live
        if flag.is_on and steering:
            listed.append(flag)
            served |= steering
            tenant_steers = tenant_steers or not flag.route
        elif flag.route and tenant_steers:
            listed.append(replace(flag, is_on=False))
    named = {flag.revision_id for flag in listed} | {arm.revision_id for flag in listed for arm in flag.arms}
    return ListedTenant(tuple(listed), tuple(named), frozenset(served))


def _turn_into_controls(flag: InheritedFlag[Id], live: frozenset[Id | None]) -> InheritedFlag[Id]:
    """The arms whose revision may not steer stay at scale 0, so that nobody changes sides."""
    if all(arm.revision_id in live for arm in flag.arms):
        return flag
    arms = (arm if arm.revision_id in live else replace(arm, alpha_scale=Decimal(0)) for arm in flag.arms)
    return replace(flag, arms=tuple(arms))


def _name_revisions(revisions: QuerySet[ProfileRevision]) -> dict[Id | None, NamedRevision]:
    columns = (text_of("pk"), "profile__name", "number", "digest", "evaluation__digest")
    rows = revisions.order_by().values_list(*columns)
    return {key: NamedRevision(profile, number, digest, evidence or "") for key, profile, number, digest, evidence in rows}


def _any_of(ids: Collection[Id | None]) -> RawSQL:
    """These ids as one parameter, so that the query is the same one however many they are, and is planned once."""
    return RawSQL("SELECT unnest(%s::uuid[])", [list(ids)])


@lru_cache(_KEPT_PROFILES)
def _write_profile(revision_id: Id, digest: str, evidence_digest: str) -> Entry[Profile]:
    """One approved revision. Its digest is of everything it does, so what is read here once stays true. Raises: NotAsApproved."""
    revision = ProfileRevision.objects.select_related("profile", "base_model").get(pk=revision_id)
    document = revision_document(revision)
    if not is_as_approved(document, digest):
        raise NotAsApproved
    return write_profile(
        {
            "id": revision.profile.name,
            "revision": revision.number,
            "revision_digest": digest,
            "evidence_digest": evidence_digest,
            **{name: document[name] for name in _AS_APPROVED if name in document},
            # What a node needs of them; the figures are for those who decide.
            **({"covers": [covered["base_model"] for covered in document["covers"]]} if "covers" in document else {}),
        }
    )


@lru_cache(KEPT_TENANTS)
def _write_flags(tenant: ListedTenant, named: tuple[NamedRevision, ...]) -> TenantEntry:
    """The flags of a tenant. `named` are the revisions of `tenant.named`."""
    points_at = dict(zip(tenant.named, named, strict=True))
    return write_flags(_describe_flag(flag, points_at) for flag in tenant.flags)


def _describe_flag(flag: InheritedFlag[Id], points_at: Mapping[Id | None, NamedRevision]) -> dict[str, Any]:
    """A flag as a snapshot lists it. What is as it is by default is left out, so that a flag without arms says nothing of arms."""
    gives = _describe(points_at[flag.revision_id], flag.alpha_scale)
    document: dict[str, Any] = {"tenant": flag.tenant, "route": flag.route, "enabled": flag.is_on, **gives}
    if flag.is_on and flag.rollout < EVERYBODY:
        document["rollout"] = format_decimal(flag.rollout)
        document |= {"rollout_salt": flag.rollout_salt} if flag.rollout_salt else {}
    if flag.is_on and flag.arms:
        document["arms"] = [
            {"name": arm.name, "weight": arm.weight, **_describe(points_at[arm.revision_id], arm.alpha_scale)} for arm in flag.arms
        ]
        document |= {"arms_salt": flag.arms_salt} if flag.arms_salt else {}
    if flag.is_on and flag.override is not None:
        bounds = flag.override
        document["override"] = {"alpha_min": format_decimal(bounds.alpha_min), "alpha_max": format_decimal(bounds.alpha_max)}
    return document


def _describe(revision: NamedRevision, alpha_scale: Decimal) -> dict[str, Any]:
    return {"profile": revision.profile, "revision": revision.number, "alpha_scale": format_decimal(alpha_scale)}


def _limit_classes(profiles: list[Entry[Profile]]) -> dict[str, Any]:
    """What the risk classes of these profiles allow now, for nodes to hold them to."""
    policies = RiskPolicy.objects.filter(name__in={entry.record.risk_class for entry in profiles})
    classes = {
        policy.name: {
            "alpha_cap": {unit: format_decimal(cap) for unit, cap in policy.alpha_caps.items()},
            "composition_budget": format_decimal(policy.composition_budget),
        }
        for policy in policies
    }
    return {"risk_classes": classes} if classes else {}
