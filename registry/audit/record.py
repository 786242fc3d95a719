"""record(): the one way into the audit log, called inside the transition whose change it is an event of.

Events are hash-linked: each digest covers the digest before it and the exact bytes of its own body. Whoever appends holds the
log to the end of the transaction, which gives gap-free numbers in commit order; so a transition appends all of its events at its end.
With its place an event gets its time: of the database's clock, which is one for all processes, and never earlier than the event before.
So whoever reads on from the last number misses nothing, and no period of time gets an event later.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from django.db import connection, models

from registry.audit.actions import Action
from registry.audit.pending import Actor, in_progress
from registry.locks import Lock, hold
from registry.models import AuditEvent, ServingNode, User
from steernode.proof.events import ZERO_DIGEST, Entry, event_digest, write_body

# A statement has at most 65,535 parameters, and a row takes seventeen.
_ROWS_AT_ONCE = 1_000


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
    """One event of the log. It is appended at the end of the transition, after those recorded before it.

    `details` may hold text, integers, booleans and lists of them; a float fails when it is appended, and the transition with it.
    Raises: ValueError for an action outside the catalogue; RuntimeError outside of a transition.
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


def record_all(entries: Sequence[Entry]) -> None:
    """The events of one change to many records, from `make_entry`."""
    in_progress().entries.extend(entries)


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


def append_events(entries: Sequence[Entry]) -> list[AuditEvent]:
    """Give each entry its place in the log and its time now, and hold the log to the end of the transaction.

    Raises: CanonicalError for details with a float.
    """
    if not entries:
        return []
    hold(Lock.LOG)
    with connection.cursor() as cursor:
        cursor.execute(_LAST_EVENT, [ZERO_DIGEST])
        seq, digest, now = cursor.fetchone()
    linked = link_events(entries, after=(seq, digest), at=now, versions=_read_versions(entries))
    return AuditEvent.objects.bulk_create(linked, batch_size=_ROWS_AT_ONCE)


# The last event, and the time of the next. GREATEST leaves out the NULL of an empty log.
_LAST_EVENT = """
SELECT coalesce(last.seq, 0), coalesce(last.digest, %s), greatest(clock_timestamp(), last.occurred_at)
FROM (SELECT) AS always LEFT JOIN (SELECT seq, digest, occurred_at FROM registry_auditevent ORDER BY seq DESC LIMIT 1) AS last ON true"""


def link_events(
    entries: Iterable[Entry], *, after: tuple[int, str], at: datetime, versions: dict[tuple[str, str], int]
) -> Iterator[AuditEvent]:
    """The events, unsaved: each with the next number, the next version of its object, and the digest that links it.

    `after` is the number and digest of the event they follow, `at` the time of all of them, `versions` the last of each object's; what
    has none begins at 1.
    """
    seq, previous = after
    for entry in entries:
        seq += 1
        key = (entry.object_type, entry.object_id)
        versions[key] = versions.get(key, 0) + 1
        body = write_body(entry, seq=seq, version=versions[key], at=at)
        digest = event_digest(previous, body)
        yield _event_row(entry, seq=seq, version=versions[key], at=at, body=body, digest=digest, previous=previous)
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


def _event_row(entry: Entry, *, seq: int, version: int, at: datetime, body: bytes, digest: str, previous: str) -> AuditEvent:
    return AuditEvent(
        seq=seq,
        event_id=entry.event_id,
        body=body,
        digest=digest,
        previous_digest=previous,
        occurred_at=at,
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
