"""The document a node pulls: every approved profile and flag of one environment. Written by the hub, read strictly by nodes.

Whether to believe a snapshot at all is in `trust`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from steernode.canonical import canonical_json, parse_strict, sha256_hex
from steernode.dsse import MAX_PAYLOAD_BYTES
from steernode.errors import CanonicalError, FieldError, SnapshotRefused
from steernode.snapshot.readers import read_base_model, read_flag, read_kill, read_limits, read_profile
from steernode.snapshot.records import Flag, ProfileIndex, Snapshot, required_capabilities
from steernode.strict import read_digest, read_exactly, read_integer, read_list, read_text, read_time, refused_as

SCHEMA = "steerhub.snapshot/2"
# Before stops had a road of their own a snapshot listed the kills too. What was signed then is read as what it was.
SCHEMA_WITH_KILLS = "steerhub.snapshot/1"
PAYLOAD_TYPE = "application/vnd.steerhub.snapshot.v1+json"
CONTENT_FIELDS = ("base_models", "profiles", "flags", "limits", "capabilities")
_HEAD_FIELDS = ("schema", "environment", "revision", "content_digest", "rollback_of", "issued_at", "expires_at")


def digest_content(content: Mapping[str, Any]) -> str:
    """The digest of what a snapshot says, whatever its revision and dates: equal content, equal digest."""
    return sha256_hex(canonical_json({name: content[name] for name in fields_of_content(content)}))


def fields_of_content(document: Mapping[str, Any]) -> tuple[str, ...]:
    """`CONTENT_FIELDS`, and in a document of the form before this one its kills."""
    return (*CONTENT_FIELDS, "kills") if "kills" in document else CONTENT_FIELDS


@refused_as(SnapshotRefused, "SCHEMA")
def parse_document(payload: bytes) -> dict[str, Any]:
    """The signed bytes as an object whose identity fields can be read, before anything else in it is looked at.

    Raises: SnapshotRefused SCHEMA.
    """
    try:
        document = parse_strict(payload, max_bytes=MAX_PAYLOAD_BYTES)
    except CanonicalError as error:
        raise FieldError("payload", error.message) from error
    if not isinstance(document, dict) or document.get("schema") not in (SCHEMA, SCHEMA_WITH_KILLS):
        raise FieldError("schema", f"the payload must be an object with schema {SCHEMA!r}")
    read_text(document.get("environment"), "environment")
    read_integer(document.get("revision"), "revision", least=1)
    read_digest(document.get("content_digest"), "content_digest")
    return document


@refused_as(SnapshotRefused, "SCHEMA")
def parse_snapshot(document: dict[str, Any]) -> Snapshot:
    """The typed snapshot. An unknown field is refused: it may be a restriction this version would not enforce.

    Raises: SnapshotRefused SCHEMA, naming the field; LIMIT for too many components.
    """
    listed = ("kills",) if document["schema"] == SCHEMA_WITH_KILLS else ()
    read_exactly(document, "payload", (*_HEAD_FIELDS, *CONTENT_FIELDS, *listed))
    rollback_of = document["rollback_of"]
    snapshot = Snapshot(
        environment=read_text(document["environment"], "environment"),
        revision=read_integer(document["revision"], "revision", least=1),
        content_digest=read_digest(document["content_digest"], "content_digest"),
        rollback_of=None if rollback_of is None else read_integer(rollback_of, "rollback_of", least=1),
        issued_at=read_time(document["issued_at"], "issued_at"),
        expires_at=read_time(document["expires_at"], "expires_at"),
        base_models=read_list(document["base_models"], "base_models", read_base_model),
        profiles=read_list(document["profiles"], "profiles", read_profile),
        flags=read_list(document["flags"], "flags", read_flag),
        kills=read_list(document["kills"], "kills", read_kill) if listed else (),
        limits=read_limits(document["limits"], "limits"),
        capabilities=read_list(document["capabilities"], "capabilities", read_text),
    )
    _check_digest(document, snapshot)
    check_agreement(snapshot)
    return snapshot


def _check_digest(document: dict[str, Any], snapshot: Snapshot) -> None:
    try:
        digest = digest_content(document)
    except CanonicalError as error:
        raise FieldError("payload", error.message) from error
    if digest != snapshot.content_digest:
        raise FieldError("content_digest", f"says {snapshot.content_digest[:12]}, the content has {digest[:12]}")


def check_agreement(snapshot: Snapshot) -> None:
    """Whether the parts, each of them well formed, go together. Raises: FieldError; SnapshotRefused LIMIT."""
    if len({(profile.id, profile.revision) for profile in snapshot.profiles}) != len(snapshot.profiles):
        raise FieldError("profiles", "lists one revision of a profile twice")
    if len(snapshot.flag_of) != len(snapshot.flags):
        raise FieldError("flags", "lists one tenant and route twice")
    listed = {model.fingerprint for model in snapshot.base_models}
    for profile in snapshot.profiles:
        if listed.isdisjoint((profile.base_model, *profile.covers)):
            raise FieldError("profiles", f"profile {profile.id!r} is for no base model that base_models lists")
        if snapshot.limits.risk_classes and profile.risk_class not in snapshot.limits.risk_classes:
            raise FieldError("limits.risk_classes", f"lists no class {profile.risk_class!r}, which profile {profile.id!r} is of")
        if len(profile.components) > snapshot.limits.max_components:
            raise SnapshotRefused("LIMIT", f"profile {profile.id!r} has more than {snapshot.limits.max_components} components", profile.id)
    check_references(snapshot.flags, snapshot.profile_of)
    missing = sorted(set(required_capabilities(snapshot.profiles)) - set(snapshot.capabilities))
    if missing:
        raise FieldError("capabilities", f"a profile needs {missing[0]!r}, which capabilities does not list")


def check_references(flags: Iterable[Flag], profile_of: ProfileIndex) -> None:
    """Whether each profile that a flag or an arm gives is listed. Raises: FieldError."""
    for flag in flags:
        for arm in flag.choices if flag.enabled else ():
            # A control may name what is no longer served: it keeps its callers, and gives them nothing.
            is_control = bool(flag.arms) and arm.alpha_scale.is_zero()
            if not is_control and (arm.profile, arm.revision) not in profile_of:
                raise FieldError(
                    "flags", f"give tenant {flag.tenant!r} the profile {arm.profile!r}, which profiles does not list just once"
                )
