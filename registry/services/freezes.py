"""Freeze windows. While one is in force nothing may raise steering in its environment; stopping and lowering always may."""

from datetime import datetime, timedelta
from uuid import UUID

from django.utils import timezone

from registry.audit import Action, record
from registry.errors import InvalidInput, NotFound, TransitionRefused
from registry.models import Environment, Freeze, Role, User
from registry.services.transition import lock_environments, transition

LONGEST_FREEZE = timedelta(days=366)
# At every door.
MAY_FREEZE = (Role.OPERATOR, Role.APPROVER)


@transition
def declare_freeze(environment: Environment, *, ends_at: datetime, reason: str, actor: User, starts_at: datetime | None = None) -> Freeze:
    """A window from now, or from a later time. Raises: InvalidInput FREEZE_WINDOW."""
    # Changes of flags hold this lock too: one that is under way is committed before the window, or meets it.
    (environment,) = lock_environments([environment])
    now = timezone.now()
    starts_at = starts_at or now
    if not starts_at < ends_at or ends_at <= now:
        raise InvalidInput("FREEZE_WINDOW", "a freeze ends after it starts, and in the future", ends_at.isoformat())
    if ends_at - max(starts_at, now) > LONGEST_FREEZE or starts_at - now > LONGEST_FREEZE or now - starts_at > LONGEST_FREEZE:
        raise InvalidInput(
            "FREEZE_WINDOW", f"a freeze starts within {LONGEST_FREEZE.days} days and lasts no longer than that", ends_at.isoformat()
        )
    freeze = Freeze.objects.create(environment=environment, starts_at=starts_at, ends_at=ends_at, reason=reason, declared_by=actor)
    record(Action.FREEZE_DECLARED, actor=actor, subject=freeze, environment=environment.name, details=_describe(freeze, reason))
    return freeze


@transition
def end_freeze(freeze_id: UUID, *, reason: str, actor: User) -> Freeze:
    """planned | in force -> ended, before its time and for good. Raises: TransitionRefused FREEZE_STATE."""
    freeze = Freeze.objects.select_for_update(of=("self",)).select_related("environment").filter(pk=freeze_id).first()
    if freeze is None:
        raise NotFound("FREEZE_NOT_FOUND", "no such freeze", str(freeze_id))
    now = timezone.now()
    state = freeze.state_at(now)
    if state not in ("planned", "in force"):
        raise TransitionRefused("FREEZE_STATE", f"the freeze of {freeze} is {state} already", str(freeze_id))
    freeze.ended_by, freeze.ended_at, freeze.ended_reason = actor, now, reason
    freeze.save(update_fields=["ended_by", "ended_at", "ended_reason"])
    record(Action.FREEZE_ENDED, actor=actor, subject=freeze, environment=freeze.environment.name, details=_describe(freeze, reason))
    return freeze


def _describe(freeze: Freeze, reason: str) -> dict[str, str]:
    return {"starts_at": freeze.starts_at.isoformat(), "ends_at": freeze.ends_at.isoformat(), "reason": reason}
