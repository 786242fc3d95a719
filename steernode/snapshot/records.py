"""The records a snapshot holds, as types. `document` reads them from signed bytes, `resolve` answers requests by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from steernode.words import EVERYBODY


@dataclass(frozen=True, slots=True)
class BaseModelEntry:
    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class VectorEntry:
    """The vector file a component needs. `shape` is (d_model,)."""

    sha256: str
    bytes: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Component:
    """One vector and how it is applied. Both norms are in activation units.

    `alpha` and its range are in `unit` for add. For ablate and clamp they are a strength from 0 to 1 that has no unit, and
    `unit` is that of clamp's `bound`.
    """

    vector: VectorEntry
    layer: int
    site: str
    operator: str
    alpha: Decimal
    alpha_min: Decimal
    alpha_max: Decimal
    unit: str
    norm: Decimal
    mean_residual_norm: Decimal
    scope: str
    schedule_kind: str
    schedule: tuple[tuple[str, int], ...]
    condition_kind: str | None
    # Kept as read, canonical: only an engine with the matching capability looks inside.
    condition: bytes | None
    preserve_norm: bool = False
    bound: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ConditionEntry:
    """A condition that belongs to no component. `document` is canonical, as read."""

    kind: str
    document: bytes


@dataclass(frozen=True, slots=True)
class Profile:
    """One approved revision of a profile. `id` is the profile's name. A condition of `safety_override` that holds forces neutral."""

    id: str
    revision: int
    revision_digest: str
    evidence_digest: str
    base_model: str
    risk_class: str
    stale_policy: str
    max_staleness_seconds: int
    components: tuple[Component, ...]
    safety_override: tuple[ConditionEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of an A/B test: `weight` parts of the callers get this revision at this scale.

    A scale of 0 is a control. It may name a revision that `profiles` does not list, which then steers nobody, whatever they ask for.
    """

    name: str
    weight: int
    profile: str
    alpha_scale: Decimal
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class AlphaBounds:
    """What a request may ask for as the α of the profile's first component, in that component's unit. Both ends are inside."""

    alpha_min: Decimal
    alpha_max: Decimal

    def holds(self, alpha: Decimal) -> bool:
        return self.alpha_min <= alpha <= self.alpha_max


@dataclass(frozen=True, slots=True)
class Flag:
    """What a tenant gets on a route; the route '' stands for every route without a flag of its own.

    `revision` tells two revisions of one profile apart while tenants move from one to the other; None where only one is listed.
    `rollout` is the share of callers, in percent. With `arms` it is the arms that say what a caller gets.
    """

    tenant: str
    route: str
    profile: str
    enabled: bool
    alpha_scale: Decimal
    revision: int | None = None
    rollout: Decimal = EVERYBODY
    arms: tuple[Arm, ...] = ()
    override: AlphaBounds | None = None
    # The arms, or the flag itself as the only one. Made once: every check of a snapshot looks at all of them.
    choices: tuple[Arm, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        choices = self.arms or (Arm("", 1, self.profile, self.alpha_scale, self.revision),)
        object.__setattr__(self, "choices", choices)

    @property
    def needs_key(self) -> bool:
        """Whether what a caller gets depends on its rollout key."""
        return self.rollout < EVERYBODY or len(self.arms) > 1


# By name and revision, and by name alone (with None) where only one revision is listed.
ProfileIndex = Mapping[tuple[str, int | None], Profile]


@dataclass(frozen=True, slots=True)
class Kill:
    kind: str
    target: str


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """What profiles of one risk class may reach. `composition_budget` is for the components at one layer together: the sum of
    their |coefficient| in activation units, as a part of the mean residual norm; None for no budget."""

    alpha_cap: Mapping[str, Decimal]
    composition_budget: Decimal | None


@dataclass(frozen=True, slots=True)
class Limits:
    """`alpha_cap` gives the largest magnitude a coefficient may have, per unit; `risk_classes` what each class may have of that."""

    max_components: int
    alpha_cap: Mapping[str, Decimal]
    risk_classes: Mapping[str, RiskLimits] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    environment: str
    revision: int
    content_digest: str
    rollback_of: int | None
    issued_at: datetime
    expires_at: datetime
    base_models: tuple[BaseModelEntry, ...]
    profiles: tuple[Profile, ...]
    flags: tuple[Flag, ...]
    kills: tuple[Kill, ...]
    limits: Limits
    capabilities: tuple[str, ...]
    profile_of: ProfileIndex = field(init=False, repr=False, compare=False)
    flag_of: Mapping[tuple[str, str], Flag] = field(init=False, repr=False, compare=False)
    _kill_of: Mapping[tuple[str, str | None], Kill] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "profile_of", index_profiles(self.profiles))
        object.__setattr__(self, "flag_of", {(flag.tenant, flag.route): flag for flag in self.flags})
        # Everything means everything, whatever a careless client wrote as its target.
        kills = {(kill.kind, "*" if kill.kind == "everything" else kill.target): kill for kill in self.kills}
        object.__setattr__(self, "_kill_of", kills)

    def flag_for(self, tenant: str, route: str) -> Flag | None:
        """The flag that decides for a tenant on a route: the route's own, or else the tenant's."""
        return self.flag_of.get((tenant, route)) or self.flag_of.get((tenant, ""))

    def kill_on(self, tenant: str, profile: str | None = None) -> Kill | None:
        """The kill in force, the widest of them, that stops a tenant; or, with a profile, that stops what the tenant gets of it."""
        reaching = (("everything", "*"), ("environment", self.environment), ("tenant", tenant), ("profile", profile))
        return next((self._kill_of[key] for key in reaching if key in self._kill_of), None)

    def flagged_profiles(self) -> set[Profile]:
        """The listed profiles that flags which are on give to somebody, in any arm."""
        arms = (arm for flag in self.flags if flag.enabled for arm in flag.choices)
        return {self.profile_of[arm.profile, arm.revision] for arm in arms if (arm.profile, arm.revision) in self.profile_of}


def index_profiles(profiles: Sequence[Profile]) -> ProfileIndex:
    """What `ProfileIndex` says, of these profiles."""
    index: dict[tuple[str, int | None], Profile] = {(profile.id, profile.revision): profile for profile in profiles}
    times_listed = Counter(profile.id for profile in profiles)
    return index | {(profile.id, None): profile for profile in profiles if times_listed[profile.id] == 1}


def required_capabilities(profiles: Iterable[Profile]) -> tuple[str, ...]:
    """What an engine must be able to do to serve these profiles, sorted."""
    profiles = tuple(profiles)
    needed = {f"condition:{entry.kind}" for profile in profiles for entry in profile.safety_override}
    for component in (component for profile in profiles for component in profile.components):
        needed |= {
            f"operator:{component.operator}",
            f"site:{component.site}",
            f"scope:{component.scope}",
            f"schedule:{component.schedule_kind}",
        }
        if component.condition_kind is not None:
            needed.add(f"condition:{component.condition_kind}")
        if component.preserve_norm:
            needed.add("preserve_norm")
    return tuple(sorted(needed))
