"""What no snapshot may ask for, whatever was approved. The hub refuses to compile it, and a node refuses to apply it.

Nothing is ever clamped: a request for more than was approved is refused where it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, localcontext

from steernode.errors import SnapshotRefused
from steernode.snapshot.records import AlphaBounds, Arm, Component, Flag, Limits, Profile, ProfileIndex, Snapshot
from steernode.snapshot.resolve import PRECISION, absolute_coefficient
from steernode.words import STRENGTH_OPERATORS, UNITS

Served = tuple[Flag, Arm, Profile]


def check_limits(snapshot: Snapshot) -> None:
    """Raises: SnapshotRefused ALPHA_CAP, COMPOSITION_BUDGET."""
    for profile in snapshot.profiles:
        if problem := find_profile_problem(profile, snapshot.limits):
            raise SnapshotRefused("ALPHA_CAP", problem)
    check_flags(snapshot.flags, snapshot.profile_of, snapshot.limits)


def check_flags(flags: Iterable[Flag], profile_of: ProfileIndex, limits: Limits) -> None:
    """What `check_limits` asks of flags: of all of them exactly what it asks of each.

    Raises: SnapshotRefused ALPHA_CAP, COMPOSITION_BUDGET.
    """
    served = list(_served(flags, profile_of))
    problems = {"ALPHA_CAP": _find_scale_problem(served), "COMPOSITION_BUDGET": _find_budget_problem(served, limits)}
    for code, problem in problems.items():
        if problem:
            raise SnapshotRefused(code, problem)


def find_alpha_problem(snapshot: Snapshot, local_cap: Mapping[str, Decimal] | None = None) -> str | None:
    """The first coefficient outside what was approved or capped, as a sentence; None if every one is inside.

    Zero needs no approval. The caps are the snapshot's, those of the profile's risk class, and `local_cap`, a node's own limit of some
    units or all. None applies to a strength, whose limits are 0 and 1 in any unit: an ablation or a clamp turned round, or overdone, would
    be another operator.
    """
    problems = (find_profile_problem(profile, snapshot.limits, local_cap) for profile in snapshot.profiles)
    return next(filter(None, problems), None) or _find_scale_problem(_served(snapshot.flags, snapshot.profile_of))


def find_profile_problem(profile: Profile, limits: Limits, local_cap: Mapping[str, Decimal] | None = None) -> str | None:
    """What `find_alpha_problem` says of one profile, whatever flags make of it."""
    caps = _caps_of(profile, limits, local_cap)
    problems = (_find_component_problem(component, caps) for component in profile.components)
    problem = next(filter(None, problems), None)
    return problem and f"profile {profile.id!r} {problem}"


def _find_scale_problem(served: Iterable[Served]) -> str | None:
    for flag, arm, profile in served:
        problem = _find_flag_problem(flag, arm, profile)
        if problem:
            return f"tenant {flag.tenant!r} {problem}"
    return None


def _find_budget_problem(served: Iterable[Served], limits: Limits) -> str | None:
    """The first tenant whose components at one layer can come to more than the composition budget of their risk class.

    Counted at the largest α that the flag can give, as if every condition held. Ablations and clamps only take away.
    """
    for flag, arm, profile in served:
        of_class = limits.risk_classes.get(profile.risk_class)
        if of_class is None or of_class.composition_budget is None:
            continue
        for layer, share in sorted(_shares_by_layer(flag, arm, profile).items()):
            if share > of_class.composition_budget:
                return (
                    f"tenant {flag.tenant!r} may get {share:.4g} of the mean residual norm at layer {layer} from {profile.id!r}, "
                    f"the composition budget of the risk class {profile.risk_class} is {of_class.composition_budget}"
                )
    return None


def _caps_of(profile: Profile, limits: Limits, local_cap: Mapping[str, Decimal] | None) -> dict[str, Decimal]:
    of_class = limits.risk_classes.get(profile.risk_class)
    every = [limits.alpha_cap, *([of_class.alpha_cap] if of_class else []), *([local_cap] if local_cap else [])]
    return {unit: min(caps[unit] for caps in every if unit in caps) for unit in UNITS}


def _served(flags: Iterable[Flag], profile_of: ProfileIndex) -> Iterator[Served]:
    """Of all that give one profile with one override, the flag or arm with the smallest scale above zero and that with the largest.

    α moves with the scale, so what holds for these two holds for thousands between them.
    """
    ends: dict[tuple[str, int | None, AlphaBounds | None], tuple[tuple[Flag, Arm], tuple[Flag, Arm]]] = {}
    for flag in flags:
        for arm in flag.choices if flag.enabled else ():
            key, here = (arm.profile, arm.revision, flag.override), (flag, arm)
            smallest, largest = ends.get(key, (here, here))
            if 0 < arm.alpha_scale < smallest[1].alpha_scale or smallest[1].alpha_scale.is_zero():
                smallest = here
            if arm.alpha_scale > largest[1].alpha_scale:
                largest = here
            ends[key] = smallest, largest
    for (name, revision, _), both in ends.items():
        profile = profile_of.get((name, revision))
        # A control may name what is no longer served.
        if profile is not None:
            yield from ((flag, arm, profile) for flag, arm in both)


def _find_component_problem(component: Component, caps: Mapping[str, Decimal]) -> str | None:
    if not component.allowed.holds(component.alpha) and not component.alpha.is_zero():
        return f"asks for α {component.alpha}, outside {component.allowed}"
    if component.operator in STRENGTH_OPERATORS:
        return _find_strength_problem(component)
    if component.bound is not None:
        return f"gives {component.operator} a bound, which only clamp has"
    largest = max(abs(component.alpha), component.allowed.reach)
    if largest > caps[component.unit]:
        return f"may reach α {largest} {component.unit}, the cap is {caps[component.unit]}"
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


def _find_flag_problem(flag: Flag, arm: Arm, profile: Profile) -> str | None:
    for component in profile.components:
        alpha = component.alpha * arm.alpha_scale
        if not alpha.is_zero() and not component.allowed.holds(alpha):
            return f"scales {profile.id!r} to α {alpha}, outside {component.allowed}"
    if flag.override is None:
        return None
    if not profile.components:
        return f"lets requests choose the α of {profile.id!r}, which has no component"
    allowed = profile.components[0].allowed
    if not allowed.covers(flag.override):
        return f"lets requests ask {profile.id!r} for α {flag.override}, outside {allowed}"
    return None


def _shares_by_layer(flag: Flag, arm: Arm, profile: Profile) -> dict[int, Decimal]:
    """By layer: the sum of |coefficient| in activation units, each as a part of the mean residual norm there."""
    shares: dict[int, Decimal] = {}
    for position, component in enumerate(profile.components):
        if component.operator in STRENGTH_OPERATORS:
            continue
        largest = abs(component.alpha * arm.alpha_scale)
        if position == 0 and flag.override is not None:
            largest = max(largest, flag.override.reach)
        coefficient = absolute_coefficient(
            largest, unit=component.unit, norm=component.norm, mean_residual_norm=component.mean_residual_norm
        )
        if coefficient.is_zero():
            continue
        with localcontext() as context:
            context.prec = PRECISION
            norm = component.mean_residual_norm
            share = coefficient / norm if norm else Decimal("Infinity")
        shares[component.layer] = shares.get(component.layer, Decimal(0)) + share
    return shares
