"""record(): the one way into the audit log, called inside the transaction of the change it tells of.

Events are hash-linked: each digest covers the digest before it and the exact bytes of its own body. An advisory lock, held
to the end of the transaction, gives gap-free numbers in commit order; so a service takes its row locks before it records.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from django.db import connection, models
from django.utils import timezone

from registry.audit.actions import Action
from registry.models import ZERO_DIGEST, AuditEvent, ServingNode, User
from steerkit.canonical import canonical_json
from steerkit.verify import event_digest

# What every event says of itself, so that a reader who sees only one knows what steering is.
INFERENCE_CONFIGURATION = "inference configuration, weights unchanged"
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
) -> AuditEvent:
    """Append one event. `details` may hold text, integers, booleans and lists of them; decimals as strings, no floats.

    Raises: ValueError for an action outside the catalogue, or outside a transaction; CanonicalError for a float.
    """
    if action not in Action:
        raise ValueError(f"{action!r} is not an audit action; add it to registry/audit/actions.py")
    if not connection.in_atomic_block:
        raise ValueError("an audit event is recorded in the transaction of the change it tells of")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    last = AuditEvent.objects.order_by("-seq").values("seq", "digest").first()
    object_type = subject._meta.model_name or ""
    version = AuditEvent.objects.filter(object_type=object_type, object_id=str(subject.pk)).count() + 1
    actor_type, actor_name = _name_actor(actor)
    now = timezone.now()
    event_id = uuid4()
    seq = (last["seq"] if last else 0) + 1
    body = {
        "_": "steerhub.audit/1",
        "id": str(event_id),
        "seq": seq,
        "ts": _timestamp(now),
        "action": str(action),
        "actor": {"type": actor_type, "name": actor_name},
        "object": {"type": object_type, "id": str(subject.pk), "name": str(subject), "version": version},
        "tenant": tenant or None,
        "environment": environment or None,
        "details": details or {},
        "inference_configuration": INFERENCE_CONFIGURATION,
        "base_model_fingerprint": base_model_fingerprint or None,
    }
    data = canonical_json(body)
    previous = last["digest"] if last else ZERO_DIGEST
    return AuditEvent.objects.create(
        seq=seq,
        event_id=event_id,
        body=data,
        digest=event_digest(previous, data),
        previous_digest=previous,
        occurred_at=now,
        action=action,
        actor_type=actor_type,
        actor_name=actor_name,
        object_type=object_type,
        object_id=str(subject.pk),
        object_name=str(subject),
        object_version=version,
        tenant=tenant,
        environment=environment,
        base_model_fingerprint=base_model_fingerprint,
    )


def _name_actor(actor: Actor) -> tuple[str, str]:
    if isinstance(actor, User):
        return ("service_account" if actor.acts_for_id else "person"), actor.get_username()
    if isinstance(actor, ServingNode):
        return "node", actor.name
    return "system", actor


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
