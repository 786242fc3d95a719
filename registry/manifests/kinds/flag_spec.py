"""What a flag says and what it gives: by specs, as files and record have it, and by the snapshot that nodes were told."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import chain, repeat
from typing import Any, cast

from registry.errors import InvalidInput
from registry.manifests.documents import Fault, Manifest
from registry.manifests.fields import (
    NAME_PATTERN,
    FieldMap,
    Schema,
    Spec,
    camel_case,
    choice,
    decimal,
    list_of,
    mapping,
    slug,
    switch,
    text,
    whole,
)
from registry.manifests.kinds.profile import Pointer
from registry.models import FlagField, ProfileRevision, TenantFlag
from registry.reads.inheritance import InheritedArm, InheritedFlag, StatedArm, StatedFlag, inherit_flag
from registry.reads.sides import NOT_DRAWN, is_new_rollout, is_new_test
from registry.services.flags import ArmSpec, Stated, check_arm_name
from steernode.canonical import format_decimal
from steernode.errors import SpellingError
from steernode.snapshot.records import AlphaBounds, Snapshot
from steernode.snapshot.resolve import Effective, resolve_arms
from steernode.spelling import spell
from steernode.words import EVERYBODY, MAX_ARM_WEIGHT, MAX_ARMS

# What the flag of a route can take from its tenant's, by the word for it.
_INHERITABLE = {camel_case(field): field for field in FlagField}

_ARM = mapping(
    "One side of an A/B test. What it leaves open, it has from its flag.",
    required={"name": slug("Its name.", max_length=50), "weight": whole("Its parts of the callers.", 1, MAX_ARM_WEIGHT)},
    optional={
        "profile": slug("The profile; with revision."),
        "revision": whole("The number of its revision.", 1, 2**31 - 1),
        "alphaScale": decimal("0 is a control."),
    },
)


def _salt(description: str) -> Schema:
    more = "None of what splits nobody; empty: as before there were salts."
    return slug(f"{description} {more}", max_length=40, pattern=f"^$|{NAME_PATTERN}")


FLAG = mapping(
    "The revision, and whether it is on.",
    required={
        "enabled": switch("Whether it steers. Only an approved revision may."),
        "reason": text("Why, for the history.", max_length=2000),
    },
    optional={
        "profile": slug("The profile; with revision, needed unless inherited."),
        "revision": whole("The number of its revision.", 1, 2**31 - 1),
        "alphaScale": decimal("Weakens what was approved: 0.5 is half. 1 if left out."),
        "rollout": decimal("The share of callers, in percent. 100 if left out."),
        "rolloutSalt": _salt("Which callers the share covers. Left as it is; drawn anew where a rollout starts."),
        "arms": list_of("The sides of an A/B test. None if left out.", _ARM, high=MAX_ARMS),
        "armsSalt": _salt("Which arm each caller is in. Left as it is; drawn anew where a test starts."),
        "override": mapping(
            "The α that a request may ask for. None if left out.", required={"min": decimal("At least."), "max": decimal("At most.")}
        ),
        "inherits": list_of(
            "What the flag of a route takes from its tenant's flag.",
            choice("", list(_INHERITABLE)),
            high=len(_INHERITABLE),
            uniqueItems=True,
            default=[],
        ),
    },
)
_FIELDS = FieldMap(FLAG["properties"])
# The fields that name a revision.
_POINTER = ("profile", "revision")
_DEFAULTS: Spec = {"alphaScale": "1", "rollout": "100", "arms": []}


def split_flag_name(name: str) -> tuple[str, str, str]:
    """ENVIRONMENT/TENANT or ENVIRONMENT/TENANT/ROUTE. A route may hold slashes of its own."""
    environment, tenant, *route = name.split("/", 2)
    return environment, tenant, route[0] if route else ""


def complete_flag(manifest: Manifest) -> tuple[Spec, list[Fault]]:
    """The spec with every field that is neither stated nor inherited at its default."""
    spec = manifest.spec
    inherits = [name for name in _INHERITABLE if name in spec["inherits"]]
    faults = []
    try:
        spell(split_flag_name(manifest.name)[2], "the route")
    except SpellingError as error:
        faults.append(manifest.fault("metadata.name", error.code, error.message))
    if inherits and not split_flag_name(manifest.name)[2]:
        faults.append(manifest.fault("spec.inherits", "MANIFEST_VALUE", "a tenant's flag has nothing to inherit from; only a route's has"))
    for field in [field for name in inherits for field in (_POINTER if name == "revision" else (name,)) if field in spec]:
        faults.append(manifest.fault(f"spec.{field}", "MANIFEST_VALUE", f"spec.{field} is both stated and inherited"))
    for field in [field for field in _POINTER if field not in spec and "revision" not in inherits]:
        faults.append(manifest.fault(f"spec.{field}", "MANIFEST_MISSING_FIELD", f"spec lacks {field!r}"))
    for position, arm in enumerate(spec.get("arms", [])):
        if ("profile" in arm) != ("revision" in arm):
            message = "an arm names both a profile and its revision, or neither"
            faults.append(manifest.fault(f"spec.arms.{position}", "MANIFEST_VALUE", message))
        try:
            check_arm_name(arm["name"])
        except InvalidInput as error:
            faults.append(manifest.fault(f"spec.arms.{position}.name", error.code, error.message))
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in inherits}
    completed = {**defaults, **spec, "inherits": inherits}
    idle = set(_find_idle_salts(completed))
    return {name: value for name, value in completed.items() if name not in idle}, faults


def _find_idle_salts(spec: Spec) -> Iterator[str]:
    """Of what splits nobody: no record has them."""
    if "rollout" in spec and Decimal(spec["rollout"]) == EVERYBODY:
        yield "rolloutSalt"
    if "arms" in spec and not spec["arms"]:
        yield "armsSalt"


def render_flag(row: TenantFlag) -> Spec:
    inherits = [name for name, field in _INHERITABLE.items() if field in row.inherits]
    arms = [
        {"name": arm.name, "weight": arm.weight, "alpha_scale": arm.alpha_scale, **_point_at(arm.revision)}
        for arm in sorted(row.arms.all(), key=lambda arm: arm.position)
    ]
    flag = {
        "enabled": row.enabled,
        "reason": row.reason,
        "inherits": inherits,
        "alpha_scale": row.alpha_scale,
        "rollout": row.rollout,
        "rollout_salt": row.rollout_salt if row.rollout is not None and row.rollout < EVERYBODY else None,
        "arms_salt": row.arms_salt if arms else None,
        "arms": None if "arms" in inherits else arms,
        "override": {"min": row.override_min, "max": row.override_max} if row.override_min is not None else None,
    }
    return _FIELDS.to_spec({**flag, **_point_at(row.revision)})


def _point_at(revision: ProfileRevision | None) -> dict[str, Any]:
    return {"profile": revision.profile.name, "revision": revision.number} if revision else {}


def state_flag(spec: Spec, revisions: Mapping[Pointer, ProfileRevision]) -> Stated:
    """The whole of a flag as the service takes it: nothing is left as it was."""
    flag = _state_spec(spec)
    stated = {
        FlagField.REVISION: revisions[flag.revision_id] if flag.revision_id else None,
        FlagField.ALPHA_SCALE: flag.alpha_scale,
        FlagField.ROLLOUT: flag.rollout,
        FlagField.ARMS: [
            ArmSpec(arm.name, arm.weight, revisions[arm.revision_id] if arm.revision_id else None, arm.alpha_scale) for arm in flag.arms
        ],
        FlagField.OVERRIDE: None
        if flag.override_min is None or flag.override_max is None
        else AlphaBounds(flag.override_min, flag.override_max),
    }
    kept = {field.value: value for field, value in stated.items() if field not in flag.inherits}
    salts = {name: salt for name, salt in (("rollout_salt", flag.rollout_salt), ("arms_salt", flag.arms_salt)) if salt != NOT_DRAWN}
    return cast(Stated, {**kept, **salts, "inherit": list(flag.inherits)})


def inherit_spec(spec: Spec | None, parent: Spec | None) -> InheritedFlag[Pointer]:
    """A flag of this spec with nothing left open. `parent` is the spec of the tenant's flag, for the flag of a route."""
    return inherit_flag(_state_spec(spec), _state_spec(parent) if parent else None)


def keep_salts(before: InheritedFlag[Pointer], after: InheritedFlag[Pointer]) -> InheritedFlag[Pointer]:
    """The flag as it will be, where its spec leaves the salts to the registry: see `services.flags`."""

    def profiles(flag: InheritedFlag[Pointer]) -> dict[str, str | None]:
        return {arm.name: arm.revision_id[0] if arm.revision_id else None for arm in flag.arms}

    is_another = bool(before.revision_id and after.revision_id and before.revision_id[0] != after.revision_id[0])
    is_new = is_new_rollout(before.rollout, after.rollout, of_another_profile=is_another)
    if after.rollout_salt == NOT_DRAWN and not is_new:
        after = replace(after, rollout_salt=before.rollout_salt)
    if after.arms_salt == NOT_DRAWN and not is_new_test(profiles(before), profiles(after)):
        after = replace(after, arms_salt=before.arms_salt)
    return after


def _state_spec(spec: Spec | None) -> StatedFlag[Pointer]:
    flag = _FIELDS.to_record(spec or {"enabled": False, "inherits": []})
    bounds = flag.get("override", {})
    return StatedFlag(
        enabled=flag["enabled"],
        inherits=[_INHERITABLE[name].value for name in flag["inherits"]],
        revision_id=_point(flag),
        alpha_scale=flag.get("alpha_scale"),
        rollout=flag.get("rollout"),
        override_min=bounds.get("min"),
        override_max=bounds.get("max"),
        arms=[StatedArm(arm["name"], arm["weight"], _point(arm), arm.get("alpha_scale")) for arm in flag.get("arms", [])],
        rollout_salt=flag.get("rollout_salt", NOT_DRAWN),
        arms_salt=flag.get("arms_salt", NOT_DRAWN),
    )


def _point(holder: dict[str, Any]) -> Pointer | None:
    return (holder["profile"], holder["revision"]) if "profile" in holder else None


def describe_spec(spec: Spec | None, parent: Spec | None) -> str:
    """What a flag of this spec gives, in words."""
    return _describe_flag(inherit_spec(spec, parent))


def _describe_flag(flag: InheritedFlag[Pointer], stopped: Sequence[str] = ()) -> str:
    """What it gives, in words. `stopped` says of each choice what stops it, or nothing."""
    if not flag.steers:
        return "off"
    words = [" | ".join(map(_describe_choice, flag.choices, chain(stopped, repeat(""))))]
    words += [f"for {format_decimal(flag.rollout)} %"] if flag.rollout < EVERYBODY else []
    words += [f"α {describe_bounds(flag.override)} on request"] if flag.override else []
    return ", ".join(words)


def describe_bounds(bounds: AlphaBounds) -> str:
    return f"{format_decimal(bounds.alpha_min)} to {format_decimal(bounds.alpha_max)}"


def _describe_choice(arm: InheritedArm[Pointer], stopped: str) -> str:
    assert arm.revision_id is not None  # noqa: S101  (of a flag that steers)
    profile, number = arm.revision_id
    return (f"{arm.name} {arm.weight}: " if arm.name else "") + (stopped or f"{profile}@{number} × {format_decimal(arm.alpha_scale)}")


def describe_told(head: Snapshot, tenant: str, route: str) -> str:
    """What a snapshot gives the callers of a route, in the same words, arm by arm as nodes resolve it."""
    flag = head.flag_for(tenant, route)
    if flag is None or not flag.enabled:
        return "off"
    answers = resolve_arms(head, flag)
    stopped = [_describe_stop(answer) for answer in answers]
    if all(answer.killed_by for answer in answers):
        return stopped[0]
    arms = tuple(InheritedArm(arm.name, arm.weight, (arm.profile, arm.revision or 0), arm.alpha_scale) for arm in flag.choices)
    pointer = (flag.profile, flag.revision or 0)
    given = InheritedFlag(True, pointer, flag.alpha_scale, flag.rollout, arms, flag.override)
    words = _describe_flag(given, stopped)
    # Nothing comes from nowhere: off is off, and so read on record.
    return words if flag.route == route or not given.steers else f"{words}, by the tenant's flag"


def _describe_stop(answer: Effective) -> str:
    """What stops an arm that its flag does not stop itself. A control is at scale 0, and stopped only for requests that may ask."""
    if answer.killed_by:
        return f"killed ({answer.killed_by})"
    return "not served" if answer.reason == "zero_scale" and answer.flag is not None and answer.flag.override is not None else ""
