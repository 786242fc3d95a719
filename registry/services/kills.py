"""The kill switch. One person engages it, nothing blocks it, and it only ever reduces steering; lifting it takes two people."""

from uuid import UUID

from django.utils import timezone

from registry.audit import Action, record
from registry.errors import InvalidInput, NotFound, TransitionRefused
from registry.models import Environment, Kill, KillKind, Profile, Tenant, User
from registry.scope import is_limited, visible_to
from registry.services.people import stands_for
from registry.snapshots import lock_environments, publish_snapshot
from registry.transitions import transition


@transition
def engage_kill(kind: str, *, target: str = "", reason: str, actor: User) -> Kill:
    """Back to α = 0 for a profile, a tenant, an environment or everything, in every environment it reaches.

    Engaging what is engaged already gives the kill in force. Raises: InvalidInput KILL_KIND; NotFound KILL_TARGET.
    """
    if kind not in KillKind.values:
        raise InvalidInput("KILL_KIND", f"cannot kill a {kind!r}; it is one of {', '.join(KillKind.values)}", kind)
    environments = lock_environments(Environment.objects.filter(name=target) if kind == KillKind.ENVIRONMENT else Environment.objects.all())
    subject = _find_target(kind, target, actor)
    known = Kill.objects.filter(kind=kind, lifted_at__isnull=True, **subject).first()
    if known is not None:
        return known
    kill = Kill.objects.create(kind=kind, reason=reason, engaged_by=actor, **subject)
    record(
        Action.KILL_ENGAGED,
        actor=actor,
        subject=kill,
        tenant=target if kind == KillKind.TENANT else "",
        environment=target if kind == KillKind.ENVIRONMENT else "",
        details={"kind": kind, "target": kill.target, "reason": reason},
    )
    for environment in environments:
        publish_snapshot(environment, cause=Action.KILL_ENGAGED, actor=actor)
    return kill


def _find_target(kind: str, name: str, actor: User) -> dict[str, Profile | Tenant | Environment]:
    """What is killed. Whoever is limited to some tenants stops those, and nobody else's; other tenants do not exist for them."""
    if kind != KillKind.TENANT and is_limited(actor):
        raise TransitionRefused("KILL_BEYOND_TENANTS", f"{actor} is limited to some tenants and may kill those; name one", kind)
    if kind == KillKind.EVERYTHING:
        return {}
    found: Profile | Tenant | Environment | None
    if kind == KillKind.PROFILE:
        found = Profile.objects.filter(name=name).first()
    elif kind == KillKind.TENANT:
        found = visible_to(actor, Tenant.objects.all(), tenant="pk").filter(name=name).first()
    else:
        found = Environment.objects.filter(name=name).first()
    if found is None:
        raise NotFound("KILL_TARGET", f"no {kind} {name!r}", name)
    return {kind: found}


@transition
def request_lift(kill_id: UUID, *, actor: User) -> Kill:
    """engaged -> lift requested. Somebody else must confirm."""
    kill = _lock_kill(kill_id, actor)
    kill.lift_requested_by = actor
    kill.save(update_fields=["lift_requested_by"])
    record(Action.KILL_LIFT_REQUESTED, actor=actor, subject=kill, details={"kind": kill.kind, "target": kill.target})
    return kill


@transition
def confirm_lift(kill_id: UUID, *, actor: User) -> Kill:
    """lift requested -> lifted, by a second person. Raises: TransitionRefused KILL_LIFT_NEEDS_TWO."""
    environments = lock_environments(Environment.objects.all())
    kill = _lock_kill(kill_id, actor)
    if kill.lift_requested_by is None or stands_for(kill.lift_requested_by) == stands_for(actor):
        raise TransitionRefused("KILL_LIFT_NEEDS_TWO", "one person requests the lift and another confirms it", str(kill_id))
    kill.lifted_by, kill.lifted_at = actor, timezone.now()
    kill.save(update_fields=["lifted_by", "lifted_at"])
    record(Action.KILL_LIFTED, actor=actor, subject=kill, details={"kind": kill.kind, "target": kill.target})
    for environment in environments:
        publish_snapshot(environment, cause=Action.KILL_LIFTED, actor=actor)
    return kill


def _lock_kill(kill_id: UUID, actor: User) -> Kill:
    kills = visible_to(actor, Kill.objects.select_for_update(of=("self",)).filter(lifted_at__isnull=True), shared=True)
    kill = kills.filter(pk=kill_id).first()
    if kill is None:
        raise NotFound("KILL_NOT_FOUND", "no such kill in force", str(kill_id))
    if kill.kind != KillKind.TENANT and is_limited(actor):
        raise TransitionRefused("KILL_BEYOND_TENANTS", f"{actor} is limited to some tenants; this kill reaches others", str(kill_id))
    return kill
