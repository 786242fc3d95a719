"""What was done to one record, read from the log: there is no other account of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import QuerySet

from registry.models import AuditEvent

# What a change says of itself, and not of the record.
_OF_THE_CHANGE = ("version", "reason")


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a record: who, when, why, what it was like after it, and in words what became different."""

    version: int
    action: str
    at: datetime
    actor_type: str
    actor: str
    reason: str
    state: dict[str, Any]
    changes: list[str]


def events_of(record: models.Model) -> QuerySet[AuditEvent]:
    """Newest first."""
    return AuditEvent.objects.filter(object_type=record._meta.model_name, object_id=str(record.pk)).order_by("-object_version")


def read_changes(events: Sequence[AuditEvent]) -> list[Change]:
    """Some consecutive events of one record, newest first, each compared with the one before it."""
    if not events:
        return []
    oldest = events[-1]
    before = AuditEvent.objects.filter(
        object_type=oldest.object_type, object_id=oldest.object_id, object_version=oldest.object_version - 1
    ).first()
    states = [details_of(event) for event in (*events, *([before] if before else []))] + [{}]
    return [
        Change(
            version=event.object_version,
            action=event.action,
            at=event.occurred_at,
            actor_type=event.actor_type,
            actor=event.actor_name,
            reason=str(after.get("reason", "")),
            state={name: value for name, value in after.items() if name not in _OF_THE_CHANGE},
            changes=_compare(earlier, after),
        )
        for event, after, earlier in zip(events, states, states[1:], strict=False)
    ]


def details_of(event: AuditEvent) -> dict[str, Any]:
    return dict(json.loads(bytes(event.body))["details"])


def _compare(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What both events tell of and tell differently. The first event of a record changes nothing: it makes it."""
    names = [name for name in after if name in before and name not in _OF_THE_CHANGE]
    # A salt that comes with another rollout or test is no news beside it.
    of_others = {f"{name}_salt" for name in names if before[name] != after[name]}
    names = [name for name in names if name not in of_others]
    return [f"{name}: {_say(before[name])} → {_say(after[name])}" for name in names if before[name] != after[name]]


def _say(value: Any) -> str:
    if value in (None, "", []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
