"""What one request gets: the profile its tenant is flagged to, at the strength approved, unless something forbids it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal, localcontext

from steernode.errors import AlphaError
from steernode.snapshot.records import Arm, Component, Flag, Kill, Profile, Snapshot
from steernode.snapshot.rollout import PLACES, choose_arm, is_in_share, place_of
from steernode.spelling import spell
from steernode.words import EVERYBODY, STRENGTH_OPERATORS

# Enough digits that coefficient, norm and scale multiply without rounding.
PRECISION = 60


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
class Stopped:
    """Where the steering of a reply ended before the reply did, and why: one of `REASONS`.

    The first `from_token` tokens were steered, the others are what the unsteered model goes on with after them. `at` is when the first of
    those was there.
    """

    reason: str
    from_token: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Effective:
    """`profile` is None exactly when nothing is steered; `reason` says why either way. `arm` is the caller's side of an A/B test.

    `alpha_scale` is the flag's or the arm's; 0 when nothing is steered. `flag` is the flag that decided; None where none was asked.
    `stopped` is of a reply that was steered, and then no longer.
    """

    profile: Profile | None
    components: tuple[EffectiveComponent, ...]
    reason: str
    arm: str = ""
    alpha_scale: Decimal = Decimal(0)
    flag: Flag | None = field(default=None, compare=False)
    stopped: Stopped | None = None

    @property
    def killed_by(self) -> str:
        """The kind of the kill that decided; empty if none did."""
        return self.reason.removeprefix("killed_") if self.reason.startswith("killed_") else ""

    def without_steering(self, reason: str) -> Effective:
        """The same request with nothing steered, for another reason."""
        return unsteered(reason, self.arm, self.flag)

    def until(self, stopped: Stopped | None) -> Effective:
        """The same request once its reply is written: nothing was steered if the steering ended before the first token."""
        if stopped is None or self.profile is None:
            return self
        return replace(self, stopped=stopped) if stopped.from_token else self.without_steering(stopped.reason)


# The reasons, in the order they are looked for; the last two mean steering.
REASONS = (
    "no_snapshot",
    "killed_everything",
    "killed_environment",
    "killed_tenant",
    "no_flag",
    "flag_off",
    "rollout_key_missing",
    "not_in_rollout",
    "killed_profile",
    "zero_scale",
    "zero_alpha",
    "wrong_base_model",
    "unservable",
    "stale",
    "safety_override",
    "safety_undecided",
    "condition_unmet",
    "override",
    "flag_on",
)


def unsteered(reason: str, arm: str = "", flag: Flag | None = None) -> Effective:
    return Effective(None, (), reason, arm, flag=flag)


def absolute_coefficient(alpha: Decimal, *, unit: str, norm: Decimal, mean_residual_norm: Decimal) -> Decimal:
    """The factor on the unit vector that α in this unit means.

    Units: mean_difference counts average differences, residual is a fraction of the mean residual norm, absolute is the factor itself.
    Raises: AlphaError ALPHA_UNIT.
    """
    with localcontext() as context:
        context.prec = PRECISION
        return alpha * _unit_lengths(unit, norm, mean_residual_norm)[unit]


def convert_alpha(alpha: Decimal, *, from_unit: str, to_unit: str, norm: Decimal, mean_residual_norm: Decimal) -> Decimal:
    """The same strength in another unit; with `from_unit="absolute"` the inverse of `absolute_coefficient`.

    Exact to 60 digits. Raises: AlphaError ALPHA_UNIT for an unknown unit, or one whose length here is not above zero.
    """
    lengths = _unit_lengths(from_unit, norm, mean_residual_norm) | _unit_lengths(to_unit, norm, mean_residual_norm)
    if lengths[to_unit] <= 0:
        raise AlphaError("ALPHA_UNIT", f"1 {to_unit} is {lengths[to_unit]} activation units here, so nothing can be counted in it", to_unit)
    with localcontext() as context:
        context.prec = PRECISION
        return alpha if from_unit == to_unit else alpha * lengths[from_unit] / lengths[to_unit]


def _unit_lengths(unit: str, norm: Decimal, mean_residual_norm: Decimal) -> dict[str, Decimal]:
    """How many activation units each unit is. Raises: AlphaError ALPHA_UNIT if `unit` is not one of them."""
    lengths = {"absolute": Decimal(1), "mean_difference": norm, "residual": mean_residual_norm}
    if unit not in lengths:
        raise AlphaError("ALPHA_UNIT", f"unit {unit!r} is not known; known are {', '.join(lengths)}", unit)
    return lengths


@dataclass(frozen=True, slots=True)
class Step:
    """What one rule said about a request. `reason` is empty unless the rule decided."""

    rule: str
    says: str
    reason: str = ""


def resolve(
    snapshot: Snapshot, tenant: str, route: str, *, key: str = "", alpha: Decimal | None = None, trail: list[Step] | None = None
) -> Effective:
    """What this snapshot gives a request. Kills win over flags; a route's own flag wins over the tenant's; the default is off.

    `key` is the caller's rollout key. `alpha` is the α that the request asks for in place of the flag's; it counts only where
    the request would be steered, so that a kill or a flag turned off never becomes an error. `trail` collects what each rule
    said, in order. Names are read in the one form of `steernode.spelling`.
    Raises: SpellingError SPELLING; AlphaError OVERRIDE_NOT_ALLOWED, OVERRIDE_RANGE.
    """
    trail = [] if trail is None else trail
    tenant, route, key = spell(tenant, "the tenant"), spell(route, "the route"), spell(key, "the rollout key")
    return _resolve(snapshot, tenant, route, lambda flag: _place(key, flag, trail), alpha, trail)


def resolve_arms(snapshot: Snapshot, flag: Flag) -> list[Effective]:
    """The most that callers in each arm of one of the snapshot's flags can get, in the order of its choices.

    That is what they get without asking, or, where that is nothing and the flag lets requests ask, what they get by asking for
    the most. So the flag steers somebody exactly if one of these has a profile.
    """

    def most(arm: Arm) -> Effective:
        placed = unsteered("not_in_rollout", arm.name, flag) if flag.rollout.is_zero() else arm
        effective = _resolve(snapshot, flag.tenant, flag.route, lambda _flag: placed, None, [])
        if effective.profile is not None or flag.override is None:
            return effective
        asked = max(flag.override.alpha_min, flag.override.alpha_max, key=abs)
        return _resolve(snapshot, flag.tenant, flag.route, lambda _flag: placed, asked, [])

    return [most(arm) for arm in flag.choices]


def _resolve(
    snapshot: Snapshot, tenant: str, route: str, place: Callable[[Flag], Arm | Effective], alpha: Decimal | None, trail: list[Step]
) -> Effective:
    """`place` puts the caller in an arm of the flag, or says why it is in none."""

    def stop(rule: str, reason: str, says: str, flag: Flag | None = None, arm: str = "") -> Effective:
        trail.append(Step(rule, says, reason))
        return unsteered(reason, arm, flag)

    if kill := snapshot.kill_on(tenant):
        return stop("kill", f"killed_{kill.kind}", _say_kill(kill))
    trail.append(Step("kill", "no kill reaches the tenant"))

    flag = snapshot.flag_for(tenant, route)
    if flag is None:
        return stop("flag", "no_flag", "no flag steers the tenant on this route, and the default is off")
    whose = f"the flag of the route {flag.route}" if flag.route else "the tenant's flag"
    if not flag.enabled:
        return stop("flag", "flag_off", f"{whose} is off", flag)
    trail.append(Step("flag", f"{whose} decides"))

    arm = place(flag)
    if isinstance(arm, Effective):
        return arm
    if kill := snapshot.kill_on(tenant, arm.profile):
        return stop("kill", f"killed_{kill.kind}", _say_kill(kill), flag, arm.name)
    profile = snapshot.profile_of.get((arm.profile, arm.revision))
    if profile is None:
        return stop("profile", "zero_scale", f"{arm.profile} is not served, so this control has nothing to be steered by", flag, arm.name)
    trail.append(Step("profile", f"{profile.id} r{profile.revision}"))
    if alpha is not None:
        _check_override(flag, alpha, trail)
    elif arm.alpha_scale.is_zero():
        return stop("scale", "zero_scale", "the α scale is 0", flag, arm.name)
    components = tuple(scale_component(component, component.alpha * arm.alpha_scale) for component in profile.components)
    if alpha is not None and components:
        components = (scale_component(components[0].component, alpha), *components[1:])
        if all(entry.alpha.is_zero() for entry in components):
            return stop("override", "zero_alpha", "the request asks for α 0", flag, arm.name)
    reason = "flag_on" if alpha is None else "override"
    trail.append(Step("scale", f"α × {arm.alpha_scale}", reason))
    return Effective(profile, components, reason, arm.name, arm.alpha_scale, flag)


def _place(key: str, flag: Flag, trail: list[Step]) -> Arm | Effective:
    """The arm that a caller is in by its rollout key, or why it is in none."""

    def stop(reason: str, says: str) -> Effective:
        trail.append(Step("rollout", says, reason))
        return unsteered(reason, flag=flag)

    tenant = flag.tenant
    if flag.needs_key and not key:
        return stop("rollout_key_missing", "the flag is not for everybody alike, and the request gives no rollout key")
    if flag.rollout < EVERYBODY:
        salt = flag.rollout_salt
        place = f"the key is at {_percent(place_of(key, tenant=tenant, salt=salt))} %, the share is {flag.rollout} %"
        if not is_in_share(key, tenant=tenant, share=flag.rollout, salt=salt):
            return stop("not_in_rollout", place)
        trail.append(Step("rollout", place))
    arms = [(arm.name, arm.weight) for arm in flag.choices]
    arm = flag.choices[choose_arm(key, tenant=tenant, arms=arms, salt=flag.arms_salt)]
    if arm.name:
        trail.append(Step("arm", f"the key falls to {arm.name!r}, which has {arm.weight} of {sum(weight for _, weight in arms)} parts"))
    return arm


def _say_kill(kill: Kill) -> str:
    return f"a kill of {'everything' if kill.kind == 'everything' else f'the {kill.kind} {kill.target}'} is in force"


def _check_override(flag: Flag, alpha: Decimal, trail: list[Step]) -> None:
    def refuse(code: str, problem: str) -> AlphaError:
        trail.append(Step("override", problem, code))
        return AlphaError(code, problem, str(alpha))

    if flag.override is None:
        raise refuse("OVERRIDE_NOT_ALLOWED", f"the request asks for α {alpha}, and the flag of tenant {flag.tenant!r} lets no request ask")
    if not flag.override.holds(alpha):
        problem = f"the request asks for α {alpha}, outside {flag.override}, which tenant {flag.tenant!r} may ask for"
        raise refuse("OVERRIDE_RANGE", problem)
    trail.append(Step("override", f"the request asks for α {alpha}, inside {flag.override}"))


def _percent(place: int) -> str:
    return str(Decimal(place) * EVERYBODY / PLACES)


def scale_component(component: Component, alpha: Decimal) -> EffectiveComponent:
    """What it comes to at this α, whatever is allowed."""

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
        return effective.without_steering("safety_override")
    met = [entry.component.condition is None or holds(entry.component.condition.document) for entry in effective.components]
    if effective.components and not any(met):
        return effective.without_steering("condition_unmet")
    zero = Decimal(0)
    components = (
        entry if is_met else replace(entry, alpha=zero, coefficient=zero) for entry, is_met in zip(effective.components, met, strict=True)
    )
    return replace(effective, components=tuple(components))
