"""What the nodes of one environment are told, as data. No times and no revision: the same record compiles to the same content.

Of thousands of tenants a change touches one. So an entry is written and checked once and kept under everything it says:
`_write_profile` and `_describe_flag` are each the one place to which a new field of their noun is added.
"""

import logging
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from registry.models import ALPHA_CAPS, BaseModel, Environment, ProfileRevision, RiskPolicy
from registry.reads.documents import revision_document
from registry.reads.inheritance import Id, SettledFlag
from registry.reads.steering import CarriedTenant, NamedRevision, carried_tenants, engaged_kills, name_revisions
from steernode.canonical import canonical_json, format_decimal, sha256_hex
from steernode.snapshot.content import (
    KEPT_TENANTS,
    Content,
    Entry,
    TenantEntry,
    write_base_model,
    write_flags,
    write_kill,
    write_limits,
    write_profile,
)
from steernode.snapshot.records import Profile, required_capabilities
from steernode.words import EVERYBODY, MAX_COMPONENTS

logger = logging.getLogger(__name__)
# What nodes are told of a revision in the words of the document that was approved.
_AS_APPROVED = ("base_model", "risk_class", "stale_policy", "max_staleness_seconds", "components", "safety_override")

_KEPT_PROFILES = 2**12


class NotAsApproved(Exception):
    """A revision is not what its digest was taken of."""


def compile_content(environment: Environment, *, without: frozenset[Id | None] = frozenset()) -> Content:
    """The content of the environment's next snapshot. What does not steer is left out: see `steering.carry_tenant`.

    A revision that is not what its digest was taken of is left out too, and loudly. It must not stop a kill from being published.
    """
    tenants, revisions = carried_tenants(environment, without=without)
    # A control, or a route that is off, may name what may not steer.
    unknown = set().union(*[tenant.named for tenant in tenants]) - revisions.keys()
    if unknown:
        revisions |= name_revisions(ProfileRevision.objects.filter(pk__in=unknown))
    written: list[Entry[Profile]] = []
    altered = set()
    for key in set().union(*[tenant.served for tenant in tenants]):
        try:
            written.append(_write_profile(key, revisions[key].digest, revisions[key].evidence_digest))
        except NotAsApproved:
            altered.add(key)
    if altered:
        logger.error("not what was approved, and left out of %s: %s", environment, sorted(revisions[key][:2] for key in altered))
        return compile_content(environment, without=without | altered)
    profiles = sorted(written, key=lambda entry: (entry.record.id, entry.record.revision))
    return Content(
        # What the environment serves now: a node whose files are none of these refuses the snapshot, and steers nobody.
        base_models=[
            write_base_model(row)
            for row in BaseModel.objects.filter(served_in__environment=environment).order_by("name").values("name", "fingerprint")
        ],
        profiles=profiles,
        tenants=[_write_flags(tenant, tuple([revisions[key] for key in tenant.named])) for tenant in tenants],
        kills=[write_kill({"kind": kind, "target": target}) for kind, target in _list_kills(environment)],
        limits=write_limits({"max_components": MAX_COMPONENTS, "alpha_cap": ALPHA_CAPS, **_limit_classes(profiles)}),
        capabilities=required_capabilities(entry.record for entry in profiles),
    )


@lru_cache(_KEPT_PROFILES)
def _write_profile(revision_id: Id, digest: str, evidence_digest: str) -> Entry[Profile]:
    """One approved revision. Its digest is of everything it does, so what is read here once stays true. Raises: NotAsApproved."""
    revision = ProfileRevision.objects.select_related("profile", "base_model").get(pk=revision_id)
    document = revision_document(revision)
    if sha256_hex(canonical_json(document)) != digest:
        raise NotAsApproved
    return write_profile(
        {
            "id": revision.profile.name,
            "revision": revision.number,
            "revision_digest": digest,
            "evidence_digest": evidence_digest,
            **{name: document[name] for name in _AS_APPROVED if name in document},
        }
    )


@lru_cache(KEPT_TENANTS)
def _write_flags(tenant: CarriedTenant, named: tuple[NamedRevision, ...]) -> TenantEntry:
    """The flags of a tenant. `named` are the revisions of `tenant.named`."""
    points_at = dict(zip(tenant.named, named, strict=True))
    return write_flags(_describe_flag(flag, points_at) for flag in tenant.flags)


def _describe_flag(flag: SettledFlag, points_at: Mapping[Id | None, NamedRevision]) -> dict[str, Any]:
    """A flag as nodes read it. What is as it always was is left out, so that a flag without arms says nothing of arms."""
    gives = _describe(points_at[flag.revision_id], flag.alpha_scale)
    document: dict[str, Any] = {"tenant": flag.tenant, "route": flag.route, "enabled": flag.is_on, **gives}
    if flag.is_on and flag.rollout < EVERYBODY:
        document["rollout"] = format_decimal(flag.rollout)
    if flag.is_on and flag.arms:
        document["arms"] = [
            {"name": arm.name, "weight": arm.weight, **_describe(points_at[arm.revision_id], arm.alpha_scale)} for arm in flag.arms
        ]
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


def _list_kills(environment: Environment) -> list[tuple[str, str]]:
    """A kill of one environment and the same of all of them are one kill here."""
    return sorted({(kill.kind, kill.target) for kill in engaged_kills(environment)})
