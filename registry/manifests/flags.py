"""Flags as manifests: named by their place, complete in what they say, and what each comes to once inheritance is settled."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from registry.manifests.documents import Fault, Manifest
from registry.manifests.specs import INHERITABLE
from registry.models import ProfileRevision, TenantFlag
from registry.services.flags import ArmSpec, Stated
from steernode.canonical import format_decimal
from steernode.snapshot.records import AlphaBounds

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
    inherits = spec["inherits"]
    override = spec.get("override")
    stated: dict[str, Any] = {
        "override": AlphaBounds(Decimal(override["min"]), Decimal(override["max"])) if override else None,
        "arms": [
            ArmSpec(
                name=arm["name"],
                weight=arm["weight"],
                revision=revisions[arm["profile"], arm["revision"]] if "profile" in arm else None,
                alpha_scale=Decimal(arm["alphaScale"]) if "alphaScale" in arm else None,
            )
            for arm in spec.get("arms", [])
        ],
    }
    if "revision" not in inherits:
        stated["revision"] = revisions[spec["profile"], spec["revision"]]
    for name, field in (("alphaScale", "alpha_scale"), ("rollout", "rollout")):
        if name not in inherits:
            stated[field] = Decimal(spec[name])
    stated = {field: value for field, value in stated.items() if field not in [INHERITABLE[name] for name in inherits]}
    return {**stated, "inherit": [INHERITABLE[name].value for name in inherits]}  # type: ignore[typeddict-item, return-value]


# -- What a flag comes to -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """What one side of an A/B test gets, or everybody, whose arm has no name."""

    arm: str
    weight: int
    pointer: Pointer
    alpha_scale: Decimal


@dataclass(frozen=True, slots=True)
class FlagState:
    """A flag with nothing left open, from specs alone."""

    is_on: bool
    choices: tuple[Choice, ...] = ()
    rollout: str = "100"
    override: tuple[str, str] | None = None

    def __str__(self) -> str:
        if not self.is_on:
            return "off"
        words = [" | ".join(_describe_choice(choice) for choice in self.choices)]
        words += [f"for {self.rollout} %"] if self.rollout != "100" else []
        words += [f"α {self.override[0]} to {self.override[1]} on request"] if self.override else []
        return ", ".join(words)


OFF = FlagState(False)


def _describe_choice(choice: Choice) -> str:
    whose = f"{choice.arm} {choice.weight}: " if choice.arm else ""
    return f"{whose}{choice.pointer[0]}@{choice.pointer[1]} × {format_decimal(choice.alpha_scale)}"


def settle_spec(spec: Spec | None, parent: Spec | None) -> FlagState:
    """What a flag of this spec comes to. `parent` is that of the tenant's flag, for the flag of a route."""
    if spec is None:
        return OFF
    whole = dict(spec)
    for name in spec["inherits"]:
        whole |= {field: parent[field] for field in _fields_of(name) if parent and field in parent}
    if not whole["enabled"] or (parent and not parent["enabled"]) or "profile" not in whole:
        return OFF
    arms = whole.get("arms") or [{"name": "", "weight": 1}]
    choices = [
        Choice(
            arm["name"],
            arm["weight"],
            (arm.get("profile", whole["profile"]), arm.get("revision", whole["revision"])),
            Decimal(arm.get("alphaScale", whole.get("alphaScale", "0"))),
        )
        for arm in arms
    ]
    override = whole.get("override")
    if not override and not any(choice.alpha_scale for choice in choices):
        return OFF
    return FlagState(True, tuple(choices), whole.get("rollout", "0"), (override["min"], override["max"]) if override else None)
