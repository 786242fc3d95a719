"""Strict readers of the records inside a snapshot. Each takes the path of its record, which is what a refusal names."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from steernode.behaviour import read_behaviour
from steernode.canonical import canonical_json
from steernode.errors import CanonicalError, FieldError
from steernode.snapshot.conditions import read_known_condition, read_vector_entry
from steernode.snapshot.records import (
    STATED,
    AlphaBounds,
    Arm,
    BaseModelEntry,
    Component,
    ConditionEntry,
    Flag,
    Kill,
    Limits,
    Profile,
    RiskLimits,
    ScheduleEntry,
    Stated,
)
from steernode.strict import (
    read_alpha,
    read_digest,
    read_exactly,
    read_integer,
    read_list,
    read_measure,
    read_one_of,
    read_switch,
    read_template_arguments,
    read_text,
)
from steernode.words import (
    EVERYBODY,
    KILL_KINDS,
    MAX_ARM_WEIGHT,
    MAX_ARMS,
    MAX_COVERED_FORMS,
    OVERRIDE_KINDS,
    SCHEDULE_PARAMETERS,
    SITES,
    STALE_POLICIES,
    UNITS,
)

_LATER = tuple(each.name for each in STATED if each.is_later)
_IN_EVERY_COMPONENT = ("vector", "layer", "site", "norm", "mean_residual_norm", *(each.name for each in STATED if not each.is_later))


def read_base_model(value: Any, path: str) -> BaseModelEntry:
    read_exactly(value, path, ("name", "fingerprint"), optional=("architecture_digest", "behaviour"))
    return BaseModelEntry(
        name=read_text(value["name"], f"{path}.name"),
        fingerprint=read_digest(value["fingerprint"], f"{path}.fingerprint"),
        architecture_digest=read_digest(value["architecture_digest"], f"{path}.architecture_digest")
        if "architecture_digest" in value
        else "",
        behaviour=read_behaviour(value["behaviour"], f"{path}.behaviour") if "behaviour" in value else None,
    )


def read_profile(value: Any, path: str) -> Profile:
    names = ("id", "revision", "revision_digest", "evidence_digest", "base_model", "risk_class", "stale_policy", "max_staleness_seconds")
    read_exactly(value, path, (*names, "components"), optional=("safety_override", "template_arguments", "covers"))
    base_model = read_digest(value["base_model"], f"{path}.base_model")
    return Profile(
        id=read_text(value["id"], f"{path}.id"),
        revision=read_integer(value["revision"], f"{path}.revision", least=1),
        revision_digest=read_digest(value["revision_digest"], f"{path}.revision_digest"),
        evidence_digest=read_digest(value["evidence_digest"], f"{path}.evidence_digest"),
        base_model=base_model,
        risk_class=read_text(value["risk_class"], f"{path}.risk_class"),
        stale_policy=read_one_of(value["stale_policy"], f"{path}.stale_policy", STALE_POLICIES),
        max_staleness_seconds=read_integer(value["max_staleness_seconds"], f"{path}.max_staleness_seconds", least=0),
        components=read_list(value["components"], f"{path}.components", read_component),
        safety_override=read_list(value.get("safety_override", []), f"{path}.safety_override", read_condition),
        template_arguments=tuple(read_template_arguments(value.get("template_arguments", {}), f"{path}.template_arguments").items()),
        covers=_read_covers(value["covers"], f"{path}.covers", base_model) if "covers" in value else (),
    )


def _read_covers(value: Any, path: str, base_model: str) -> tuple[str, ...]:
    covers = read_list(value, path, read_digest)
    if not 1 <= len(covers) <= MAX_COVERED_FORMS or len({base_model, *covers}) != len(covers) + 1:
        raise FieldError(path, f"must be 1 to {MAX_COVERED_FORMS} fingerprints, no two alike, and none of them the base model's own")
    return covers


def read_component(value: Any, path: str) -> Component:
    read_exactly(value, path, _IN_EVERY_COMPONENT, optional=_LATER)
    return Component(
        vector=read_vector_entry(value["vector"], f"{path}.vector"),
        layer=read_integer(value["layer"], f"{path}.layer", least=0),
        site=read_one_of(value["site"], f"{path}.site", SITES),
        norm=read_measure(value["norm"], f"{path}.norm"),
        mean_residual_norm=read_measure(value["mean_residual_norm"], f"{path}.mean_residual_norm"),
        **{each.name: _read_stated(each, value[each.name], f"{path}.{each.name}") for each in STATED if each.name in value},
    )


def _read_stated(each: Stated, value: Any, path: str) -> Any:
    match each.kind:
        case "coefficient":
            return read_alpha(value, path)
        case "word":
            return read_one_of(value, path, each.words)
        case "switch":
            return read_switch(value, path)
        case "schedule":
            return _read_schedule(value, path)
        case "condition":
            return None if value is None else read_condition(value, path)


def read_condition(value: Any, path: str) -> ConditionEntry:
    """A kind known here is read strictly; another is left to a node that has the capability."""
    if not isinstance(value, dict):
        raise FieldError(path, "must be an object with a kind")
    kind = read_text(value.get("kind"), f"{path}.kind")
    if kind in OVERRIDE_KINDS:
        read_known_condition(value, path)
    try:
        return ConditionEntry(kind, canonical_json(value))
    except CanonicalError as error:
        raise FieldError(path, f"is not canonical: {error.message}") from error


def _read_schedule(value: Any, path: str) -> ScheduleEntry:
    kind = read_one_of(value.get("kind") if isinstance(value, dict) else None, f"{path}.kind", tuple(SCHEDULE_PARAMETERS))
    schedule = ScheduleEntry(kind, tuple(sorted((name, number) for name, number in value.items() if name != "kind")))
    if problem := schedule.find_problem():
        raise FieldError(f"{path}.{problem[0]}", problem[1])
    return schedule


def read_flag(value: Any, path: str) -> Flag:
    names = ("tenant", "route", "profile", "enabled", "alpha_scale")
    read_exactly(value, path, names, optional=("revision", "rollout", "rollout_salt", "arms", "arms_salt", "override"))
    arms = read_list(value.get("arms", []), f"{path}.arms", _arm)
    if len(arms) > MAX_ARMS or len({arm.name for arm in arms}) != len(arms):
        raise FieldError(f"{path}.arms", f"must be at most {MAX_ARMS}, no two of one name")
    return Flag(
        tenant=read_text(value["tenant"], f"{path}.tenant"),
        route=read_text(value["route"], f"{path}.route", least=0),
        profile=read_text(value["profile"], f"{path}.profile"),
        enabled=read_switch(value["enabled"], f"{path}.enabled"),
        alpha_scale=_scale(value["alpha_scale"], f"{path}.alpha_scale"),
        revision=read_integer(value["revision"], f"{path}.revision", least=1) if "revision" in value else None,
        rollout=_rollout(value["rollout"], f"{path}.rollout") if "rollout" in value else EVERYBODY,
        arms=arms,
        override=_override(value["override"], f"{path}.override") if "override" in value else None,
        rollout_salt=read_text(value["rollout_salt"], f"{path}.rollout_salt") if "rollout_salt" in value else "",
        arms_salt=read_text(value["arms_salt"], f"{path}.arms_salt") if "arms_salt" in value else "",
    )


def _arm(value: Any, path: str) -> Arm:
    read_exactly(value, path, ("name", "weight", "profile", "alpha_scale"), optional=("revision",))
    weight = read_integer(value["weight"], f"{path}.weight", least=1)
    if weight > MAX_ARM_WEIGHT:
        raise FieldError(f"{path}.weight", f"must be at most {MAX_ARM_WEIGHT}")
    return Arm(
        name=read_text(value["name"], f"{path}.name"),
        weight=weight,
        profile=read_text(value["profile"], f"{path}.profile"),
        alpha_scale=_scale(value["alpha_scale"], f"{path}.alpha_scale"),
        revision=read_integer(value["revision"], f"{path}.revision", least=1) if "revision" in value else None,
    )


def _scale(value: Any, path: str) -> Decimal:
    scale = read_alpha(value, path)
    if scale < 0:
        raise FieldError(path, "must not be negative; a scale weakens what was approved, it cannot turn it round")
    return scale


def _rollout(value: Any, path: str) -> Decimal:
    share = read_alpha(value, path)
    if not 0 <= share <= EVERYBODY:
        raise FieldError(path, "must be a share from 0 to 100 percent")
    return share


def _override(value: Any, path: str) -> AlphaBounds:
    read_exactly(value, path, ("alpha_min", "alpha_max"))
    bounds = AlphaBounds(read_alpha(value["alpha_min"], f"{path}.alpha_min"), read_alpha(value["alpha_max"], f"{path}.alpha_max"))
    if bounds.alpha_min > bounds.alpha_max:
        raise FieldError(path, "has a lower bound above its upper one")
    return bounds


def read_kill(value: Any, path: str) -> Kill:
    read_exactly(value, path, ("kind", "target"))
    return Kill(read_one_of(value["kind"], f"{path}.kind", KILL_KINDS), read_text(value["target"], f"{path}.target", least=0))


def read_limits(value: Any, path: str) -> Limits:
    read_exactly(value, path, ("max_components", "alpha_cap"), optional=("risk_classes",))
    classes = value.get("risk_classes", {})
    if not isinstance(classes, dict):
        raise FieldError(f"{path}.risk_classes", "must be an object")
    return Limits(
        max_components=read_integer(value["max_components"], f"{path}.max_components", least=1),
        alpha_cap=_caps(value["alpha_cap"], f"{path}.alpha_cap"),
        risk_classes={
            read_text(name, f"{path}.risk_classes"): _risk_limits(limits, f"{path}.risk_classes.{name}") for name, limits in classes.items()
        },
    )


def _risk_limits(value: Any, path: str) -> RiskLimits:
    read_exactly(value, path, ("alpha_cap",), optional=("composition_budget",))
    budget = read_measure(value["composition_budget"], f"{path}.composition_budget") if "composition_budget" in value else None
    return RiskLimits(_caps(value["alpha_cap"], f"{path}.alpha_cap"), budget)


def _caps(value: Any, path: str) -> dict[str, Decimal]:
    read_exactly(value, path, UNITS)
    return {unit: read_alpha(value[unit], f"{path}.{unit}") for unit in UNITS}
