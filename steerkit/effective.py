"""What one request gets: the profile its tenant is flagged to, at the strength approved, unless something forbids it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext

from steerkit.errors import AlphaError
from steerkit.snapshotrecords import STRENGTH_OPERATORS, UNITS, Component, Flag, Profile, Snapshot

# Enough digits that coefficient, norm and scale multiply without rounding.
_PRECISION = 60


@dataclass(frozen=True, slots=True)
class EffectiveComponent:
    """What a component comes to for one request. `alpha` is what was approved, times the flag's scale.

    add            `coefficient` is that α on the unit vector, in activation units
    ablate, clamp  `coefficient` is that α, a strength from 0 to 1; for clamp, `bound` is in activation units and never scaled

    So a scale from 0 to 1 can only weaken steering. Were a clamp's bound scaled instead, a smaller scale would cut more.
    """

    component: Component
    alpha: Decimal
    coefficient: Decimal
    bound: Decimal | None = None


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
    "safety_override",
    "condition_unmet",
    "flag_on",
)


def unsteered(reason: str) -> Effective:
    return Effective(None, (), reason)


def absolute_coefficient(alpha: Decimal, *, unit: str, norm: Decimal, mean_residual_norm: Decimal) -> Decimal:
    """The factor on the unit vector that α in this unit stands for.

    Units: mean_difference counts average differences, residual is a fraction of the mean residual norm, absolute is the factor itself.
    Raises: AlphaError ALPHA_UNIT.
    """
    with localcontext() as context:
        context.prec = _PRECISION
        return alpha * _unit_lengths(unit, norm, mean_residual_norm)[unit]


def convert_alpha(alpha: Decimal, *, from_unit: str, to_unit: str, norm: Decimal, mean_residual_norm: Decimal) -> Decimal:
    """The same strength in another unit; with `from_unit="absolute"` the inverse of `absolute_coefficient`.

    Exact to 60 digits. Raises: AlphaError ALPHA_UNIT for an unknown unit, or one whose length here is not above zero.
    """
    lengths = _unit_lengths(from_unit, norm, mean_residual_norm) | _unit_lengths(to_unit, norm, mean_residual_norm)
    if lengths[to_unit] <= 0:
        raise AlphaError("ALPHA_UNIT", f"1 {to_unit} is {lengths[to_unit]} activation units here, so nothing can be counted in it", to_unit)
    with localcontext() as context:
        context.prec = _PRECISION
        return alpha if from_unit == to_unit else alpha * lengths[from_unit] / lengths[to_unit]


def _unit_lengths(unit: str, norm: Decimal, mean_residual_norm: Decimal) -> dict[str, Decimal]:
    """How many activation units each unit is. Raises: AlphaError ALPHA_UNIT if `unit` is not one of them."""
    lengths = {"absolute": Decimal(1), "mean_difference": norm, "residual": mean_residual_norm}
    if unit not in lengths:
        raise AlphaError("ALPHA_UNIT", f"unit {unit!r} is not known; known are {', '.join(lengths)}", unit)
    return lengths


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

    def absolute(value: Decimal) -> Decimal:
        return absolute_coefficient(value, unit=component.unit, norm=component.norm, mean_residual_norm=component.mean_residual_norm)

    if component.operator in STRENGTH_OPERATORS:
        return EffectiveComponent(component, alpha, alpha, None if component.bound is None else absolute(component.bound))
    return EffectiveComponent(component, alpha, absolute(alpha))


def apply_conditions(effective: Effective, holds: Callable[[bytes], bool]) -> Effective:
    """What is left of it for one request, once `holds` has decided each condition: nothing if one of the profile's safety
    overrides holds; α 0 for a component whose condition does not; and nothing if that leaves no component."""
    if effective.profile is None:
        return effective
    if any(holds(entry.document) for entry in effective.profile.safety_override):
        return unsteered("safety_override")
    met = [entry.component.condition is None or holds(entry.component.condition) for entry in effective.components]
    if effective.components and not any(met):
        return unsteered("condition_unmet")
    zero = Decimal(0)
    components = (
        entry if is_met else replace(entry, alpha=zero, coefficient=zero) for entry, is_met in zip(effective.components, met, strict=True)
    )
    return replace(effective, components=tuple(components))


def find_alpha_problem(snapshot: Snapshot, local_cap: Mapping[str, Decimal] | None = None) -> str | None:
    """The first coefficient outside what was approved or capped, as a sentence; None if every one is inside.

    Nothing is ever clamped: a request for more than was approved is refused where it is written. Zero needs no approval.
    `local_cap` is a node's own limit per unit, on top of the snapshot's. Neither applies to a strength, whose limits are 0 and 1
    in any unit: an ablation or a clamp turned round, or overdone, would be another operator.
    """
    caps = {unit: min(snapshot.limits.alpha_cap[unit], (local_cap or snapshot.limits.alpha_cap)[unit]) for unit in UNITS}
    for profile in snapshot.profiles:
        for component in profile.components:
            if not component.alpha_min <= component.alpha <= component.alpha_max and not component.alpha.is_zero():
                return f"profile {profile.id!r} asks for α {component.alpha}, outside {component.alpha_min} to {component.alpha_max}"
            if component.operator in STRENGTH_OPERATORS:
                problem = _find_strength_problem(component)
                if problem:
                    return f"profile {profile.id!r} {problem}"
                continue
            if component.bound is not None:
                return f"profile {profile.id!r} gives {component.operator} a bound, which only clamp has"
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


def _find_strength_problem(component: Component) -> str | None:
    for alpha in (component.alpha, component.alpha_min, component.alpha_max):
        if not 0 <= alpha <= 1:
            return f"gives {component.operator} a strength that may be {alpha}, outside 0 to 1"
    if (component.bound is not None) != (component.operator == "clamp"):
        return "clamps without a bound" if component.bound is None else f"gives {component.operator} a bound, which only clamp has"
    if component.bound is not None and component.bound.is_zero():
        return "clamps at 0; the sign of the bound says which side is capped"
    return None
