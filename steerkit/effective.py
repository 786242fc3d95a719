"""What one request gets: the profile its tenant is flagged to, at the strength approved, unless something forbids it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext

from steerkit.snapshotrecords import UNITS, Component, Flag, Profile, Snapshot

# Enough digits that coefficient, norm and scale multiply without rounding.
_PRECISION = 60


@dataclass(frozen=True, slots=True)
class EffectiveComponent:
    """`coefficient` is absolute, on the unit vector, in activation units; `alpha` is the same after scaling, in the component's unit."""

    component: Component
    alpha: Decimal
    coefficient: Decimal


@dataclass(frozen=True, slots=True)
class Effective:
    """`profile` is None exactly when nothing is steered; `reason` says why either way."""

    profile: Profile | None
    components: tuple[EffectiveComponent, ...]
    reason: str


# The reasons, in the order they are looked for; the last means steering.
REASONS = (
    "no_snapshot",
    "killed_everything",
    "killed_environment",
    "killed_tenant",
    "no_flag",
    "flag_off",
    "killed_profile",
    "wrong_base_model",
    "stale",
    "zero_scale",
    "flag_on",
)


def unsteered(reason: str) -> Effective:
    return Effective(None, (), reason)


def absolute_coefficient(alpha: Decimal, *, unit: str, norm: Decimal, mean_residual_norm: Decimal) -> Decimal:
    """The factor on the unit vector that α in this unit stands for.

    Units: mean_difference counts average differences, residual is a fraction of the mean residual norm, absolute is the factor itself.
    """
    factors = {"absolute": Decimal(1), "mean_difference": norm, "residual": mean_residual_norm}
    with localcontext() as context:
        context.prec = _PRECISION
        return alpha * factors[unit]


def resolve(snapshot: Snapshot, tenant: str, route: str) -> Effective:
    """What this snapshot gives a request. Kills win over flags; a route's own flag wins over the tenant's; the default is off."""
    kills = {(kill.kind, kill.target) for kill in snapshot.kills}
    # Everything means everything, whatever a careless client wrote as its target.
    if any(kind == "everything" for kind, _target in kills):
        return unsteered("killed_everything")
    if ("environment", snapshot.environment) in kills:
        return unsteered("killed_environment")
    if ("tenant", tenant) in kills:
        return unsteered("killed_tenant")
    flag = snapshot.flag_of.get((tenant, route)) or snapshot.flag_of.get((tenant, ""))
    if flag is None:
        return unsteered("no_flag")
    if not flag.enabled:
        return unsteered("flag_off")
    if ("profile", flag.profile) in kills:
        return unsteered("killed_profile")
    if flag.alpha_scale.is_zero():
        return unsteered("zero_scale")
    profile = snapshot.profile_of[(flag.profile, flag.revision)]
    return Effective(profile, tuple(_scale(component, flag) for component in profile.components), "flag_on")


def _scale(component: Component, flag: Flag) -> EffectiveComponent:
    alpha = component.alpha * flag.alpha_scale
    coefficient = absolute_coefficient(alpha, unit=component.unit, norm=component.norm, mean_residual_norm=component.mean_residual_norm)
    return EffectiveComponent(component, alpha, coefficient)


def find_alpha_problem(snapshot: Snapshot, local_cap: Mapping[str, Decimal] | None = None) -> str | None:
    """The first coefficient outside what was approved or capped, as a sentence; None if every one is inside.

    Nothing is ever clamped: a request for more than was approved is refused where it is written. Zero needs no approval.
    `local_cap` is a node's own limit per unit, on top of the snapshot's.
    """
    caps = {unit: min(snapshot.limits.alpha_cap[unit], (local_cap or snapshot.limits.alpha_cap)[unit]) for unit in UNITS}
    for profile in snapshot.profiles:
        for component in profile.components:
            if not component.alpha_min <= component.alpha <= component.alpha_max and not component.alpha.is_zero():
                return f"profile {profile.id!r} asks for α {component.alpha}, outside {component.alpha_min} to {component.alpha_max}"
            largest = max(abs(component.alpha), abs(component.alpha_min), abs(component.alpha_max))
            if largest > caps[component.unit]:
                return f"profile {profile.id!r} may reach α {largest} {component.unit}, the cap is {caps[component.unit]}"
    for flag in snapshot.flags:
        if not flag.enabled:
            continue
        for component in snapshot.profile_of[(flag.profile, flag.revision)].components:
            alpha = component.alpha * flag.alpha_scale
            if not alpha.is_zero() and not component.alpha_min <= alpha <= component.alpha_max:
                allowed = f"{component.alpha_min} to {component.alpha_max}"
                return f"tenant {flag.tenant!r} scales {flag.profile!r} to α {alpha}, outside {allowed}"
    return None
