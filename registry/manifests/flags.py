"""Flags as manifests: named by their place, complete in what they say, and what each gives once its tenant's flag is counted in."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from registry.manifests.documents import Fault, Manifest
from registry.manifests.specs import INHERITABLE
from registry.models import FlagField, ProfileRevision, TenantFlag
from registry.reads.inheritance import InheritedArm, InheritedFlag, StatedArm, StatedFlag, inherit_flag
from registry.services.flags import ArmSpec, Stated
from steernode.canonical import format_decimal
from steernode.snapshot.records import AlphaBounds, Snapshot
from steernode.snapshot.resolve import Effective, resolve_arms
from steernode.words import EVERYBODY

Spec = dict[str, Any]
_DEFAULTS: Spec = {"alphaScale": "1", "rollout": "100", "arms": []}
# A profile's name and the number of its revision.
Pointer = tuple[str, int]


def split_flag_name(name: str) -> tuple[str, str, str]:
    """ENVIRONMENT/TENANT or ENVIRONMENT/TENANT/ROUTE. A route may hold slashes of its own."""
    environment, tenant, *route = name.split("/", 2)
    return environment, tenant, route[0] if route else ""


def name_parent(name: str) -> str:
    """The name of the tenant's flag, for the flag of a route; empty for the tenant's."""
    environment, tenant, route = split_flag_name(name)
    return f"{environment}/{tenant}" if route else ""


def _fields_of(inheritable: str) -> tuple[str, ...]:
    """The fields of a spec that say it."""
    return ("profile", "revision") if inheritable == "revision" else (inheritable,)


def complete_flag(manifest: Manifest) -> tuple[Spec, list[Fault]]:
    """The spec with every field that is neither stated nor inherited at its default."""
    spec = manifest.spec
    inherits = [name for name in INHERITABLE if name in spec["inherits"]]
    faults = []
    if inherits and not split_flag_name(manifest.name)[2]:
        faults.append(manifest.fault("spec.inherits", "MANIFEST_VALUE", "a tenant's flag has nothing to inherit from; only a route's has"))
    for name in INHERITABLE:
        for field in _fields_of(name):
            if name in inherits and field in spec:
                faults.append(manifest.fault(f"spec.{field}", "MANIFEST_VALUE", f"spec.{field} is both stated and inherited"))
            if name == "revision" and name not in inherits and field not in spec:
                faults.append(manifest.fault(f"spec.{field}", "MANIFEST_MISSING_FIELD", f"spec lacks {field!r}"))
    for position, arm in enumerate(spec.get("arms", [])):
        if ("profile" in arm) != ("revision" in arm):
            message = "an arm names both a profile and its revision, or neither"
            faults.append(manifest.fault(f"spec.arms.{position}", "MANIFEST_VALUE", message))
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in inherits}
    return {**defaults, **spec, "inherits": inherits}, faults


def render_flag(row: TenantFlag) -> Spec:
    """With its revision's profile, its arms and their revisions' profiles at hand."""
    spec: Spec = {
        "enabled": row.enabled,
        "reason": row.reason,
        "inherits": [name for name, field in INHERITABLE.items() if field in row.inherits],
    }
    if row.revision is not None:
        spec |= {"profile": row.revision.profile.name, "revision": row.revision.number}
    if row.alpha_scale is not None:
        spec["alphaScale"] = format_decimal(row.alpha_scale)
    if row.rollout is not None:
        spec["rollout"] = format_decimal(row.rollout)
    if "arms" not in spec["inherits"]:
        spec["arms"] = [_render_arm(arm) for arm in sorted(row.arms.all(), key=lambda arm: arm.position)]
    if row.override_min is not None and row.override_max is not None:
        spec["override"] = {"min": format_decimal(row.override_min), "max": format_decimal(row.override_max)}
    return spec


def _render_arm(arm: Any) -> Spec:
    spec: Spec = {"name": arm.name, "weight": arm.weight}
    if arm.revision is not None:
        spec |= {"profile": arm.revision.profile.name, "revision": arm.revision.number}
    return spec if arm.alpha_scale is None else {**spec, "alphaScale": format_decimal(arm.alpha_scale)}


def state_flag(spec: Spec, revisions: Mapping[Pointer, ProfileRevision]) -> Stated:
    """The whole of a flag as the service takes it: nothing is left as it was."""
    said = _state_spec(spec)
    stated: dict[str, Any] = {
        FlagField.REVISION: revisions[said.revision_id] if said.revision_id else None,
        FlagField.ALPHA_SCALE: said.alpha_scale,
        FlagField.ROLLOUT: said.rollout,
        FlagField.ARMS: [
            ArmSpec(arm.name, arm.weight, revisions[arm.revision_id] if arm.revision_id else None, arm.alpha_scale) for arm in said.arms
        ],
        FlagField.OVERRIDE: AlphaBounds(said.override_min, said.override_max) if said.override_min is not None else None,
    }
    stated = {field.value: value for field, value in stated.items() if field not in said.inherits}
    return {**stated, "inherit": list(said.inherits)}  # type: ignore[typeddict-item, return-value]


# -- What a flag gives ----------------------------------------------------------------------------------------------------------


def inherit_spec(spec: Spec | None, parent: Spec | None) -> InheritedFlag[Pointer]:
    """A flag of this spec with nothing left open. `parent` is the spec of the tenant's flag, for the flag of a route."""
    return inherit_flag(_state_spec(spec), _state_spec(parent) if parent else None)


def _state_spec(spec: Spec | None) -> StatedFlag[Pointer]:
    spec = spec or {"enabled": False, "inherits": []}
    override = spec.get("override") or {}
    return StatedFlag(
        enabled=spec["enabled"],
        inherits=[INHERITABLE[name].value for name in spec["inherits"]],
        revision_id=_pointer(spec),
        alpha_scale=_decimal(spec, "alphaScale"),
        rollout=_decimal(spec, "rollout"),
        override_min=_decimal(override, "min"),
        override_max=_decimal(override, "max"),
        arms=[StatedArm(arm["name"], arm["weight"], _pointer(arm), _decimal(arm, "alphaScale")) for arm in spec.get("arms", [])],
    )


def _pointer(holder: Spec) -> Pointer | None:
    return (holder["profile"], holder["revision"]) if "profile" in holder else None


def _decimal(holder: Spec, name: str) -> Decimal | None:
    return Decimal(holder[name]) if name in holder else None


def describe_flag(flag: InheritedFlag[Pointer], stopped: Sequence[str] = ()) -> str:
    """What it gives, in words. `stopped` says of each choice what stops it, or nothing."""
    if not flag.steers:
        return "off"
    choices = zip_longest(flag.choices, stopped, fillvalue="")
    words = [" | ".join(_describe_choice(arm, why) for arm, why in choices)]
    words += [f"for {format_decimal(flag.rollout)} %"] if flag.rollout < EVERYBODY else []
    words += [f"α {describe_bounds(flag.override)} on request"] if flag.override else []
    return ", ".join(words)


def describe_bounds(bounds: AlphaBounds) -> str:
    return f"{format_decimal(bounds.alpha_min)} to {format_decimal(bounds.alpha_max)}"


def _describe_choice(arm: InheritedArm[Pointer], stopped: str) -> str:
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
    return describe_flag(given, stopped) + ("" if flag.route == route else ", by the tenant's flag")


def _describe_stop(answer: Effective) -> str:
    """What stops an arm that its flag does not stop itself. A control is at scale 0, and stopped only for requests that may ask."""
    if answer.killed_by:
        return f"killed ({answer.killed_by})"
    return "not served" if answer.reason == "zero_scale" and answer.flag is not None and answer.flag.override is not None else ""
