"""The records a snapshot holds, as types, and what an author may state of a component, each thing declared once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from steernode.behaviour import Behaviour
from steernode.canonical import format_decimal, parse_strict
from steernode.spelling import normal_form
from steernode.words import EVERYBODY, OPERATORS, SCHEDULE_LEAST, SCHEDULE_PARAMETERS, SCOPES, UNITS


@dataclass(frozen=True, slots=True)
class BaseModelEntry:
    """`architecture_digest` is of what says where it keeps its sites; empty where the hub has none on record. `behaviour` is what it said
    to the eight prompts when it was registered; None where nobody measured it."""

    name: str
    fingerprint: str
    architecture_digest: str = ""
    behaviour: Behaviour | None = None


@dataclass(frozen=True, slots=True)
class VectorEntry:
    """The vector file a component needs. `shape` is (d_model,)."""

    sha256: str
    bytes: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ScheduleEntry:
    """How strength changes over the generated tokens. `parameters` by name, in the order of their names."""

    kind: str
    parameters: tuple[tuple[str, int], ...] = ()

    def find_problem(self) -> tuple[str, str] | None:
        """The first parameter that a schedule of this known kind cannot have, or must have otherwise, and why."""
        values, needed = dict(self.parameters), SCHEDULE_PARAMETERS[self.kind]
        for name in sorted({*values, *needed}):
            if name not in needed or name not in values:
                return name, "is unknown" if name in values else "is missing"
            if isinstance(values[name], bool) or not isinstance(values[name], int) or values[name] < SCHEDULE_LEAST[name]:
                return name, f"must be an integer of at least {SCHEDULE_LEAST[name]}, got {values[name]!r}"
        if self.kind == "window" and values["last_token"] < values["first_token"]:
            return "last_token", f"is {values['last_token']}, before first_token {values['first_token']}"
        return None


@dataclass(frozen=True, slots=True)
class ConditionEntry:
    """A condition, kept as read, canonical: only an engine with the matching capability looks inside."""

    kind: str
    document: bytes


@dataclass(frozen=True, slots=True)
class AlphaBounds:
    """A range of α, both ends inside. As a flag's override: what a request may ask for as the α of the first component."""

    alpha_min: Decimal
    alpha_max: Decimal

    def __str__(self) -> str:
        return f"{format_decimal(self.alpha_min)} to {format_decimal(self.alpha_max)}"

    def holds(self, alpha: Decimal) -> bool:
        return self.alpha_min <= alpha <= self.alpha_max

    @property
    def reach(self) -> Decimal:
        return max(abs(self.alpha_min), abs(self.alpha_max))

    def covers(self, other: AlphaBounds) -> bool:
        return self.alpha_min <= other.alpha_min <= other.alpha_max <= self.alpha_max


_REQUIRED: Any = object()


@dataclass(frozen=True, slots=True)
class Stated:
    """One field of a component that its author states. The API, manifests, the console and the reader of nodes take it from here.

    `kind` says how it is read, `says` what it is. An author who leaves it out gets `default`, unless it is `_REQUIRED`.
    What `is_later` came after there were components, and stands in no document where it is its default, so that those read as they
    did. What `is_capability` an engine must be able to do.
    """

    name: str
    kind: Literal["coefficient", "word", "switch", "schedule", "condition"]
    says: str
    words: tuple[str, ...] = ()
    default: Any = _REQUIRED
    is_later: bool = False
    is_capability: bool = False

    @property
    def is_required(self) -> bool:
        return self.default is _REQUIRED


STATED = (
    Stated("alpha", "coefficient", "The coefficient, inside the range that may be asked for."),
    Stated("alpha_min", "coefficient", "The least that may be asked for."),
    Stated("alpha_max", "coefficient", "The most that may be asked for."),
    Stated("unit", "word", "What a coefficient of 1 means.", UNITS),
    Stated("operator", "word", "What is done with the vector.", OPERATORS, default="add", is_capability=True),
    Stated("scope", "word", "Which tokens are steered.", SCOPES, default="generated", is_capability=True),
    Stated("bound", "coefficient", "Of clamp: the cap of the projection; its sign says which side.", default=None, is_later=True),
    Stated("preserve_norm", "switch", "Whether the hidden state keeps its length.", default=False, is_later=True, is_capability=True),
    Stated("schedule", "schedule", "How strength changes over the generated tokens.", default={"kind": "constant"}, is_capability=True),
    Stated("condition", "condition", "When it fires; without one for every request.", default=None, is_capability=True),
)


@dataclass(frozen=True, slots=True)
class Component:
    """One vector and how it is applied. Both norms are in activation units.

    `alpha` and its range are in `unit` for add. For ablate and clamp they are a strength from 0 to 1 that has no unit, and
    `unit` is that of clamp's `bound`.
    """

    vector: VectorEntry
    layer: int
    site: str
    norm: Decimal
    mean_residual_norm: Decimal
    # As `STATED` describes them.
    alpha: Decimal
    alpha_min: Decimal
    alpha_max: Decimal
    unit: str
    operator: str
    scope: str
    schedule: ScheduleEntry
    condition: ConditionEntry | None = None
    bound: Decimal | None = None
    preserve_norm: bool = False

    @property
    def allowed(self) -> AlphaBounds:
        return AlphaBounds(self.alpha_min, self.alpha_max)

    def stated(self) -> dict[str, Any]:
        """What its author stated, as JSON."""
        return {each.name: _write(getattr(self, each.name)) for each in STATED}

    def capabilities(self) -> set[str]:
        """Such as `operator:add` and `schedule:linear`; a switch that is on is one by its name alone."""
        asked = [(each.name, getattr(self, each.name)) for each in STATED if each.is_capability]
        asked.append(("site", self.site))
        return {name if value is True else f"{name}:{getattr(value, 'kind', value)}" for name, value in asked if value}


def _write(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format_decimal(value)
    if isinstance(value, ScheduleEntry):
        return {"kind": value.kind, **dict(value.parameters)}
    return parse_strict(value.document) if isinstance(value, ConditionEntry) else value


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
    # What the chat template is given beside the messages, by name and in that order.
    template_arguments: tuple[tuple[str, str | int | bool], ...] = ()
    # Fingerprints of the forms of its base model that the approval covers too, though nothing was measured on them.
    covers: tuple[str, ...] = ()
    # What an engine must be able to do. Made once: every check of a snapshot looks at all of them.
    capabilities: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        asked = {f"condition:{entry.kind}" for entry in self.safety_override}
        asked |= {"template_arguments"} if self.template_arguments else set()
        asked |= {"covered_forms"} if self.covers else set()
        object.__setattr__(self, "capabilities", frozenset(asked).union(*[component.capabilities() for component in self.components]))

    def is_for(self, fingerprint: str) -> bool:
        """Whether it may steer these files: those that it was measured on, or a form of them that its approval covers."""
        return fingerprint == self.base_model or fingerprint in self.covers

    @property
    def conditions(self) -> tuple[ConditionEntry, ...]:
        """All there are: those that force neutral, and those of its components."""
        return (*self.safety_override, *(each.condition for each in self.components if each.condition is not None))


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
class Flag:
    """What a tenant gets on a route; the route '' is for every route without a flag of its own.

    `revision` tells two revisions of one profile apart while tenants move from one to the other; None where only one is listed.
    `rollout` is the share of callers, in percent. With `arms` it is the arms that say what a caller gets. The salts say which callers:
    see `snapshot.rollout`.
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
    rollout_salt: str = ""
    arms_salt: str = ""
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


@dataclass(frozen=True, slots=True, order=True)
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
        # By the route as requests are read. Where a hub from before that listed two forms of one, what is off counts.
        on_first = sorted(self.flags, key=lambda flag: not flag.enabled)
        object.__setattr__(self, "flag_of", {(flag.tenant, normal_form(flag.route)): flag for flag in on_first})
        # Everything means everything, whatever a careless client wrote as its target.
        kills = {(kill.kind, "*" if kill.kind == "everything" else kill.target): kill for kill in self.kills}
        object.__setattr__(self, "_kill_of", kills)

    def under(self, kills: Iterable[Kill]) -> Snapshot:
        """What this snapshot gives where these kills are in force besides its own."""
        own = set(self.kills)
        more = tuple(dict.fromkeys(kill for kill in kills if kill not in own))
        return replace(self, kills=self.kills + more) if more else self

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
    return tuple(sorted(frozenset().union(*[profile.capabilities for profile in profiles])))
