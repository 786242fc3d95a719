"""The document a node pulls: every approved profile, flag and kill of one environment. Written by the hub, read strictly by nodes.

Whether to believe a snapshot at all is in `trust`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from steerkit.canonical import canonical_json, parse_strict, sha256_hex
from steerkit.conditions import CONDITION_KINDS, parse_condition, read_vector_entry
from steerkit.effective import (
    Effective,
    EffectiveComponent,
    absolute_coefficient,
    find_alpha_problem,
    resolve,
    unsteered,
)
from steerkit.errors import CanonicalError, EngineError, SnapshotRefused
from steerkit.snapshotfields import (
    format_time,
    read_alpha,
    read_digest,
    read_exactly,
    read_integer,
    read_list,
    read_measure,
    read_one_of,
    read_text,
    read_time,
    refuse_field,
)
from steerkit.snapshotrecords import (
    KILL_KINDS,
    OPERATORS,
    SCHEDULE_PARAMETERS,
    SCOPES,
    SITES,
    STALE_POLICIES,
    UNITS,
    BaseModelEntry,
    Component,
    ConditionEntry,
    Flag,
    Kill,
    Limits,
    Profile,
    Snapshot,
    VectorEntry,
    required_capabilities,
)

__all__ = [
    "BaseModelEntry",
    "Component",
    "Effective",
    "EffectiveComponent",
    "Flag",
    "Kill",
    "Limits",
    "Profile",
    "Snapshot",
    "VectorEntry",
    "absolute_coefficient",
    "compile_payload",
    "digest_content",
    "find_alpha_problem",
    "format_time",
    "parse_document",
    "parse_snapshot",
    "required_capabilities",
    "resolve",
    "unsteered",
]

SCHEMA = "steerhub.snapshot/1"
PAYLOAD_TYPE = "application/vnd.steerhub.snapshot.v1+json"
MAX_SNAPSHOT_BYTES = 4 * 1024 * 1024
CONTENT_FIELDS = ("base_models", "profiles", "flags", "kills", "limits", "capabilities")
_HEAD_FIELDS = ("schema", "environment", "revision", "content_digest", "rollback_of", "issued_at", "expires_at")


def digest_content(content: Mapping[str, Any]) -> str:
    """The digest of what a snapshot says, whatever its revision and dates: equal content, equal digest."""
    return sha256_hex(canonical_json({name: content[name] for name in CONTENT_FIELDS}))


def compile_payload(
    content: Mapping[str, Any], *, environment: str, revision: int, rollback_of: int | None, issued_at: datetime, expires_at: datetime
) -> bytes:
    """The canonical bytes to sign. What a node would refuse is refused here first, by the same code.

    Raises: SnapshotRefused SCHEMA, LIMIT, ALPHA_CAP; CanonicalError for a float.
    """
    document = {
        **{name: content[name] for name in CONTENT_FIELDS},
        "schema": SCHEMA,
        "environment": environment,
        "revision": revision,
        "content_digest": digest_content(content),
        "rollback_of": rollback_of,
        "issued_at": format_time(issued_at),
        "expires_at": format_time(expires_at),
    }
    payload = canonical_json(document)
    problem = find_alpha_problem(parse_snapshot(parse_document(payload)))
    if problem:
        raise SnapshotRefused("ALPHA_CAP", problem)
    return payload


def parse_document(payload: bytes) -> dict[str, Any]:
    """The signed bytes as an object whose identity fields can be read, before anything else in it is looked at.

    Raises: SnapshotRefused SCHEMA.
    """
    try:
        document = parse_strict(payload, max_bytes=MAX_SNAPSHOT_BYTES)
    except CanonicalError as error:
        raise refuse_field("payload", error.message) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise refuse_field("schema", f"the payload must be an object with schema {SCHEMA!r}")
    read_text(document.get("environment"), "environment")
    read_integer(document.get("revision"), "revision", least=1)
    read_digest(document.get("content_digest"), "content_digest")
    return document


def parse_snapshot(document: dict[str, Any]) -> Snapshot:
    """The typed snapshot. An unknown field is refused: it may be a restriction this version would not enforce.

    Raises: SnapshotRefused SCHEMA, naming the field; LIMIT for too many components.
    """
    read_exactly(
        document,
        "payload",
        ("schema", "environment", "revision", "content_digest", "rollback_of", "issued_at", "expires_at", *CONTENT_FIELDS),
    )
    rollback_of = document["rollback_of"]
    snapshot = Snapshot(
        environment=read_text(document["environment"], "environment"),
        revision=read_integer(document["revision"], "revision", least=1),
        content_digest=read_digest(document["content_digest"], "content_digest"),
        rollback_of=None if rollback_of is None else read_integer(rollback_of, "rollback_of", least=1),
        issued_at=read_time(document["issued_at"], "issued_at"),
        expires_at=read_time(document["expires_at"], "expires_at"),
        base_models=read_list(document["base_models"], "base_models", _base_model),
        profiles=read_list(document["profiles"], "profiles", _profile),
        flags=read_list(document["flags"], "flags", _flag),
        kills=read_list(document["kills"], "kills", _kill),
        limits=_limits(document["limits"], "limits"),
        capabilities=read_list(document["capabilities"], "capabilities", read_text),
    )
    _check_agreement(document, snapshot)
    return snapshot


def _check_agreement(document: dict[str, Any], snapshot: Snapshot) -> None:
    try:
        digest = digest_content(document)
    except CanonicalError as error:
        raise refuse_field("payload", error.message) from error
    if digest != snapshot.content_digest:
        raise refuse_field("content_digest", f"says {snapshot.content_digest[:12]}, the content has {digest[:12]}")
    if len({(profile.id, profile.revision) for profile in snapshot.profiles}) != len(snapshot.profiles):
        raise refuse_field("profiles", "lists one revision of a profile twice")
    if len(snapshot.flag_of) != len(snapshot.flags):
        raise refuse_field("flags", "lists one tenant and route twice")
    listed = {model.fingerprint for model in snapshot.base_models}
    for profile in snapshot.profiles:
        if profile.base_model not in listed:
            raise refuse_field("profiles", f"profile {profile.id!r} is for a base model that base_models does not list")
        if len(profile.components) > snapshot.limits.max_components:
            raise SnapshotRefused("LIMIT", f"profile {profile.id!r} has more than {snapshot.limits.max_components} components", profile.id)
    for flag in snapshot.flags:
        if flag.enabled and (flag.profile, flag.revision) not in snapshot.profile_of:
            raise refuse_field("flags", f"give tenant {flag.tenant!r} the profile {flag.profile!r}, which profiles does not list just once")
    missing = sorted(set(required_capabilities(snapshot.profiles)) - set(snapshot.capabilities))
    if missing:
        raise refuse_field("capabilities", f"a profile needs {missing[0]!r}, which capabilities does not list")


def _base_model(value: Any, path: str) -> BaseModelEntry:
    read_exactly(value, path, ("name", "fingerprint"))
    return BaseModelEntry(read_text(value["name"], f"{path}.name"), read_digest(value["fingerprint"], f"{path}.fingerprint"))


def _profile(value: Any, path: str) -> Profile:
    names = (
        "id",
        "revision",
        "revision_digest",
        "evidence_digest",
        "base_model",
        "risk_class",
        "stale_policy",
        "max_staleness_seconds",
        "components",
    )
    read_exactly(value, path, names, optional=("safety_override",))
    return Profile(
        id=read_text(value["id"], f"{path}.id"),
        revision=read_integer(value["revision"], f"{path}.revision", least=1),
        revision_digest=read_digest(value["revision_digest"], f"{path}.revision_digest"),
        evidence_digest=read_digest(value["evidence_digest"], f"{path}.evidence_digest"),
        base_model=read_digest(value["base_model"], f"{path}.base_model"),
        risk_class=read_text(value["risk_class"], f"{path}.risk_class"),
        stale_policy=read_one_of(value["stale_policy"], f"{path}.stale_policy", STALE_POLICIES),
        max_staleness_seconds=read_integer(value["max_staleness_seconds"], f"{path}.max_staleness_seconds", least=0),
        components=read_list(value["components"], f"{path}.components", _component),
        safety_override=read_list(value.get("safety_override", []), f"{path}.safety_override", _condition),
    )


def _component(value: Any, path: str) -> Component:
    names = (
        "vector",
        "layer",
        "site",
        "operator",
        "alpha",
        "alpha_min",
        "alpha_max",
        "unit",
        "norm",
        "mean_residual_norm",
        "scope",
        "schedule",
    )
    read_exactly(value, path, (*names, "condition"), optional=("preserve_norm", "bound"))
    schedule_kind, schedule = _schedule(value["schedule"], f"{path}.schedule")
    condition = None if value["condition"] is None else _condition(value["condition"], f"{path}.condition")
    preserve_norm = value.get("preserve_norm", False)
    if not isinstance(preserve_norm, bool):
        raise refuse_field(f"{path}.preserve_norm", "must be true or false")
    return Component(
        vector=read_vector_entry(value["vector"], f"{path}.vector"),
        layer=read_integer(value["layer"], f"{path}.layer", least=0),
        site=read_one_of(value["site"], f"{path}.site", SITES),
        operator=read_one_of(value["operator"], f"{path}.operator", OPERATORS),
        alpha=read_alpha(value["alpha"], f"{path}.alpha"),
        alpha_min=read_alpha(value["alpha_min"], f"{path}.alpha_min"),
        alpha_max=read_alpha(value["alpha_max"], f"{path}.alpha_max"),
        unit=read_one_of(value["unit"], f"{path}.unit", UNITS),
        norm=read_measure(value["norm"], f"{path}.norm"),
        mean_residual_norm=read_measure(value["mean_residual_norm"], f"{path}.mean_residual_norm"),
        scope=read_one_of(value["scope"], f"{path}.scope", SCOPES),
        schedule_kind=schedule_kind,
        schedule=schedule,
        condition_kind=None if condition is None else condition.kind,
        condition=None if condition is None else condition.document,
        preserve_norm=preserve_norm,
        bound=read_alpha(value["bound"], f"{path}.bound") if "bound" in value else None,
    )


def _condition(value: Any, path: str) -> ConditionEntry:
    """A kind known here is read strictly; another is left to a node that has the capability."""
    if not isinstance(value, dict):
        raise refuse_field(path, "must be an object with a kind")
    kind = read_text(value.get("kind"), f"{path}.kind")
    if kind in CONDITION_KINDS:
        try:
            parse_condition(value, path)
        except EngineError as error:
            raise SnapshotRefused("SCHEMA", error.message, error.item) from error
    return ConditionEntry(kind, canonical_json(value))


def _schedule(value: Any, path: str) -> tuple[str, tuple[tuple[str, int], ...]]:
    kind = read_one_of(value.get("kind") if isinstance(value, dict) else None, f"{path}.kind", tuple(SCHEDULE_PARAMETERS))
    read_exactly(value, path, ("kind", *SCHEDULE_PARAMETERS[kind]))
    return kind, tuple((name, read_integer(value[name], f"{path}.{name}", least=0)) for name in SCHEDULE_PARAMETERS[kind])


def _flag(value: Any, path: str) -> Flag:
    read_exactly(value, path, ("tenant", "route", "profile", "enabled", "alpha_scale"), optional=("revision",))
    if not isinstance(value["enabled"], bool):
        raise refuse_field(f"{path}.enabled", "must be true or false")
    scale = read_alpha(value["alpha_scale"], f"{path}.alpha_scale")
    if scale < 0:
        raise refuse_field(f"{path}.alpha_scale", "must not be negative; a scale weakens what was approved, it cannot turn it round")
    return Flag(
        tenant=read_text(value["tenant"], f"{path}.tenant"),
        route=read_text(value["route"], f"{path}.route", least=0),
        profile=read_text(value["profile"], f"{path}.profile"),
        enabled=value["enabled"],
        alpha_scale=scale,
        revision=read_integer(value["revision"], f"{path}.revision", least=1) if "revision" in value else None,
    )


def _kill(value: Any, path: str) -> Kill:
    read_exactly(value, path, ("kind", "target"))
    return Kill(read_one_of(value["kind"], f"{path}.kind", KILL_KINDS), read_text(value["target"], f"{path}.target", least=0))


def _limits(value: Any, path: str) -> Limits:
    read_exactly(value, path, ("max_components", "alpha_cap"))
    read_exactly(value["alpha_cap"], f"{path}.alpha_cap", UNITS)
    caps = {unit: read_alpha(value["alpha_cap"][unit], f"{path}.alpha_cap.{unit}") for unit in UNITS}
    return Limits(read_integer(value["max_components"], f"{path}.max_components", least=1), caps)
