"""record(): the one way into the audit log, called inside the transaction of the change it tells of.

Events are hash-linked: each digest covers the digest before it and the exact bytes of its own body. An advisory lock, held
to the end of the transaction, gives gap-free numbers in commit order; so transitions and batches, which take row locks on their
way, append all of their events at their end.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import uuid4

from django.db import connection, models
from django.utils import timezone

from registry.audit.actions import Action
from registry.audit.transition import appends_events, open_events
from registry.models import AuditEvent, ServingNode, User
from steernode.proof.events import ZERO_DIGEST, Entry, event_digest, write_body

# Any number that nothing else in this database locks; "steeraud" in hex.
_LOCK = 0x7374656572617564

# A person, a serving node, or the name of a part of the system (a worker, the scheduler).
Actor = User | ServingNode | str


def record(
    action: Action,
    *,
    actor: Actor,
    subject: models.Model,
    details: dict[str, Any] | None = None,
    tenant: str = "",
    environment: str = "",
    base_model_fingerprint: str = "",
) -> None:
    """Append one event, at the end of the transition or batch, or now outside of both.

    `details` may hold text, integers, booleans and lists of them; no floats.
    Raises: ValueError for an action outside the catalogue, or outside a transaction; CanonicalError for a float.
    """
    record_all(
        [
            make_entry(
                action,
                actor=actor,
                subject=subject,
                details=details,
                tenant=tenant,
                environment=environment,
                base_model_fingerprint=base_model_fingerprint,
            )
        ]
    )


def make_entry(
    action: Action,
    *,
    actor: Actor,
    subject: models.Model,
    details: dict[str, Any] | None = None,
    tenant: str = "",
    environment: str = "",
    base_model_fingerprint: str = "",
) -> Entry:
    """What `record` takes, for `record_all`."""
    if action not in Action:
        raise ValueError(f"{action!r} is not an audit action; add it to registry/audit/actions.py")
    actor_type, actor_name = _name_actor(actor)
    return Entry(
        event_id=uuid4(),
        occurred_at=timezone.now(),
        action=action,
        actor_type=actor_type,
        actor_name=actor_name,
        object_type=subject._meta.model_name or "",
        object_id=str(subject.pk),
        object_name=str(subject),
        tenant=tenant,
        environment=environment,
        base_model_fingerprint=base_model_fingerprint,
        details=details or {},
    )


def record_all(entries: Sequence[Entry]) -> None:
    """Append the events of one change to many records, with the queries of one."""
    if not connection.in_atomic_block:
        raise ValueError("an audit event is recorded in the transaction of the change it tells of")
    events = open_events()
    if events is None:
        append_events(entries)
    else:
        events.extend(entries)


@appends_events
def append_events(entries: Sequence[Entry]) -> None:
    """Give each entry its place in the log, at its end."""
    if not entries:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute("SELECT seq, digest FROM registry_auditevent ORDER BY seq DESC LIMIT 1")
        last = cursor.fetchone() or (0, ZERO_DIGEST)
    AuditEvent.objects.bulk_create(link_events(entries, after=last, versions=_read_versions(entries)))


def link_events(entries: Iterable[Entry], *, after: tuple[int, str], versions: dict[tuple[str, str], int]) -> Iterator[AuditEvent]:
    """The events, unsaved: each with the next number, the next version of its object, and the digest that links it.

    `after` is the number and digest of the event they follow, `versions` the last of each object's; what has none begins at 1.
    """
    seq, previous = after
    for entry in entries:
        seq += 1
        key = (entry.object_type, entry.object_id)
        versions[key] = versions.get(key, 0) + 1
        body = write_body(entry, seq=seq, version=versions[key])
        digest = event_digest(previous, body)
        yield _event_row(entry, seq=seq, version=versions[key], body=body, digest=digest, previous=previous)
        previous = digest


# One step into the index that keeps versions unique for each object, however long its history.
_LAST_VERSIONS = """
SELECT object.type, object.id, last.object_version FROM unnest(%s::text[], %s::text[]) AS object (type, id) CROSS JOIN LATERAL (
    SELECT object_version FROM registry_auditevent WHERE object_type = object.type AND object_id = object.id
    ORDER BY object_version DESC LIMIT 1) AS last"""


def _read_versions(entries: Sequence[Entry]) -> dict[tuple[str, str], int]:
    """The last version of each object that has one."""
    keys = {(entry.object_type, entry.object_id) for entry in entries}
    with connection.cursor() as cursor:
        cursor.execute(_LAST_VERSIONS, [[kind for kind, _ in keys], [key for _, key in keys]])
        return {(kind, key): version for kind, key, version in cursor.fetchall()}


def _event_row(entry: Entry, *, seq: int, version: int, body: bytes, digest: str, previous: str) -> AuditEvent:
    return AuditEvent(
        seq=seq,
        event_id=entry.event_id,
        body=body,
        digest=digest,
        previous_digest=previous,
        occurred_at=entry.occurred_at,
        action=entry.action,
        actor_type=entry.actor_type,
        actor_name=entry.actor_name,
        object_type=entry.object_type,
        object_id=entry.object_id,
        object_name=entry.object_name,
        object_version=version,
        tenant=entry.tenant,
        environment=entry.environment,
        base_model_fingerprint=entry.base_model_fingerprint,
    )


def _name_actor(actor: Actor) -> tuple[str, str]:
    if isinstance(actor, User):
        return ("service_account" if actor.acts_for_id else "person"), actor.get_username()
    if isinstance(actor, ServingNode):
        return "node", actor.name
    return "system", actor
