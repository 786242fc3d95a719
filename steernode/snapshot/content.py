"""What a snapshot says, put together from entries that are each written and checked once, however many snapshots hold them.

The hub compiles the flags of a thousand tenants when one of them changes, so those of a tenant are an entry by themselves.
The signed bytes are exactly `canonical_json` of the whole document, and nothing is signed that the node's own reader would refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any, Generic, TypeVar

from steernode.canonical import DEFAULT_MAX_DEPTH, canonical_json, parse_strict, sha256_hex
from steernode.dsse import MAX_PAYLOAD_BYTES
from steernode.errors import FieldError, SnapshotRefused
from steernode.snapshot.document import SCHEMA, check_agreement, check_references
from steernode.snapshot.limits import check_flags, check_limits
from steernode.snapshot.readers import read_base_model, read_flag, read_limits, read_profile
from steernode.snapshot.records import BaseModelEntry, Flag, Limits, Profile, Snapshot, index_profiles
from steernode.strict import format_time, read_integer, read_list, read_text, refused_as

Record = TypeVar("Record")
# An entry of a list in a document lies two levels below it.
_MAX_ENTRY_DEPTH = DEFAULT_MAX_DEPTH - 2
# What a process made of a tenant is kept for so many of them. With more it is made anew, which is slower and otherwise the same.
KEPT_TENANTS = 2**14


@dataclass(frozen=True, slots=True, eq=False)
class Entry(Generic[Record]):
    """One entry of a document: its canonical bytes, and the record that a node reads from exactly these."""

    data: bytes
    record: Record


@dataclass(frozen=True, slots=True, eq=False)
class TenantEntry:
    """The flags of one tenant: their bytes as they stand in the list, and what other entries they go together with."""

    data: bytes
    flags: tuple[Flag, ...]
    keys: frozenset[tuple[str, str]]
    profiles: tuple[str, ...]


def write_entry(document: Mapping[str, Any], read: Callable[[Any, str], Record], path: str) -> Entry[Record]:
    """Raises: SnapshotRefused SCHEMA if a node would refuse the entry; CanonicalError for a float."""
    return _read_entry(canonical_json(document), read, path)


@refused_as(SnapshotRefused, "SCHEMA")
def _read_entry(data: bytes, read: Callable[[Any, str], Record], path: str) -> Entry[Record]:
    return Entry(data, read(parse_strict(data, max_depth=_MAX_ENTRY_DEPTH), path))


def write_base_model(document: Mapping[str, Any]) -> Entry[BaseModelEntry]:
    return write_entry(document, read_base_model, "base_models[]")


def write_profile(document: Mapping[str, Any]) -> Entry[Profile]:
    return write_entry(document, read_profile, "profiles[]")


def write_flags(documents: Iterable[Mapping[str, Any]]) -> TenantEntry:
    """Of one tenant."""
    entries = [write_entry(document, read_flag, "flags[]") for document in documents]
    flags = _records(entries)
    named = {arm.profile for flag in flags for arm in flag.choices}
    return TenantEntry(_join(entries), flags, frozenset((flag.tenant, flag.route) for flag in flags), tuple(sorted(named)))


def write_limits(document: Mapping[str, Any]) -> Entry[Limits]:
    return _keep_limits(canonical_json(document))


@lru_cache
def _keep_limits(data: bytes) -> Entry[Limits]:
    """Kept by its bytes, because what is checked of a tenant is kept by its limits."""
    return _read_entry(data, read_limits, "limits")


@dataclass(frozen=True)
class Content:
    """Everything but revision and times: the same record compiles to the same content."""

    base_models: Sequence[Entry[BaseModelEntry]]
    profiles: Sequence[Entry[Profile]]
    tenants: Sequence[TenantEntry]
    limits: Entry[Limits]
    capabilities: Sequence[str]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Content:
        """Raises: SnapshotRefused SCHEMA, naming the field; CanonicalError for a float."""
        return cls(
            base_models=[write_base_model(entry) for entry in document["base_models"]],
            profiles=[write_profile(entry) for entry in document["profiles"]],
            tenants=[write_flags(flags) for _, flags in groupby(document["flags"], key=itemgetter("tenant"))],
            limits=write_limits(document["limits"]),
            capabilities=document["capabilities"],
        )

    @cached_property
    def members(self) -> dict[str, bytes]:
        """The canonical bytes of each field of `CONTENT_FIELDS`."""
        return {
            "base_models": b"[%b]" % _join(self.base_models),
            "profiles": b"[%b]" % _join(self.profiles),
            "flags": b"[%b]" % _join(self.tenants),
            "limits": self.limits.data,
            "capabilities": canonical_json(list(self.capabilities)),
        }

    @cached_property
    def digest(self) -> str:
        """Equal content, equal digest: that of `digest_content`."""
        return sha256_hex(_join_object(self.members))


@refused_as(SnapshotRefused, "SCHEMA")
def compile_payload(
    content: Content, *, environment: str, revision: int, rollback_of: int | None, issued_at: datetime, expires_at: datetime
) -> bytes:
    """The canonical bytes to sign. What a node would refuse is refused here first, by the same code.

    Raises: SnapshotRefused SCHEMA, LIMIT, ALPHA_CAP, COMPOSITION_BUDGET.
    """
    without_flags = Snapshot(
        environment=read_text(environment, "environment"),
        revision=read_integer(revision, "revision", least=1),
        content_digest=content.digest,
        rollback_of=None if rollback_of is None else read_integer(rollback_of, "rollback_of", least=1),
        issued_at=issued_at,
        expires_at=expires_at,
        base_models=_records(content.base_models),
        profiles=_records(content.profiles),
        flags=(),
        kills=(),
        limits=content.limits.record,
        capabilities=read_list(list(content.capabilities), "capabilities", read_text),
    )
    check_agreement(without_flags)
    check_limits(without_flags)
    _check_tenants(content)
    head = {
        "schema": SCHEMA,
        "environment": environment,
        "revision": revision,
        "content_digest": content.digest,
        "rollback_of": rollback_of,
        "issued_at": format_time(issued_at),
        "expires_at": format_time(expires_at),
    }
    payload = _join_object({**content.members, **{name: canonical_json(value) for name, value in head.items()}})
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise SnapshotRefused(
            "LIMIT", f"the snapshot of {environment} has {len(payload)} bytes, nodes read {MAX_PAYLOAD_BYTES}", environment
        )
    return payload


def _check_tenants(content: Content) -> None:
    """Whether the flags go together with the profiles and the limits, looking only at tenants of whom this is not known."""
    if len(frozenset().union(*[tenant.keys for tenant in content.tenants])) != sum(len(tenant.flags) for tenant in content.tenants):
        raise FieldError("flags", "lists one tenant and route twice")
    revisions: dict[str, tuple[Entry[Profile], ...]] = {}
    for profile in content.profiles:
        revisions[profile.record.id] = (*revisions.get(profile.record.id, ()), profile)
    for tenant in content.tenants:
        _check_tenant(tenant, tuple([revisions.get(name, ()) for name in tenant.profiles]), content.limits)


@lru_cache(KEPT_TENANTS)
def _check_tenant(tenant: TenantEntry, profiles: tuple[tuple[Entry[Profile], ...], ...], limits: Entry[Limits]) -> None:
    """`profiles` are all listed revisions of each profile that the tenant's flags name."""
    profile_of = index_profiles([entry.record for revisions in profiles for entry in revisions])
    check_references(tenant.flags, profile_of)
    check_flags(tenant.flags, profile_of, limits.record)


def _records(entries: Sequence[Entry[Record]]) -> tuple[Record, ...]:
    return tuple(entry.record for entry in entries)


def _join(entries: Iterable[Entry[Any] | TenantEntry]) -> bytes:
    return b",".join([entry.data for entry in entries])


def _join_object(members: Mapping[str, bytes]) -> bytes:
    """The canonical bytes of an object, from those of its members."""
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), members[name]) for name in sorted(members)) + b"}"
