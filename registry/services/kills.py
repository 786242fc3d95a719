"""The kill switch. One person engages it, nothing blocks it, and it only ever reduces steering; lifting it takes two people."""

from collections.abc import Iterable, Sequence
from datetime import UTC, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from django.utils import timezone

from registry.audit import Action, record
from registry.errors import InvalidInput, NotFound, TransitionRefused
from registry.locks import Lock, hold, keep_names
from registry.models import LIFT_REQUEST_LASTS, Environment, Kill, KillKind, Profile, Tenant, User
from registry.reads.lifts import LiftStanding, lift_standing
from registry.reads.steering import engaged_kills, freeze_in_force
from registry.reads.visibility import is_limited, kills_visible_to, visible_to
from registry.services.notifications import notify
from registry.services.people import stands_for
from registry.services.transition import lock_environments, transition
from registry.snapshots import issue_stop
from steernode.spelling import says_something
from steernode.stop.document import name_target
from steernode.strict import refused_as

# What is killed, by the columns of a kill.
Subject: TypeAlias = dict[str, Profile | Tenant | Environment | None]

LIFT_REQUEST = ["lift_requested_by", "lift_requested_at", "lift_reason"]


@transition
def engage_kill(kind: str, *, target: str = "", environment: str = "", reason: str, actor: User) -> Kill:
    """Back to α = 0 for a profile, a tenant, an environment or everything. No freeze holds it, and no batch that is under way.

    A kill of a profile or a tenant reaches every environment, or with `environment` that one alone. Engaging what is engaged
    already gives the kill in force: it is an event of its own, and withdraws a lift that was asked for before. It compiles no
    snapshot: nodes hear of it by the stop statement that is written here.
    Raises: InvalidInput KILL_KIND, KILL_TARGET; NotFound KILL_TARGET.
    """
    if kind not in KillKind.values:
        raise InvalidInput("KILL_KIND", f"cannot kill a {kind!r}; it is one of {', '.join(KillKind.values)}", kind)
    subject = _find_subject(kind, target, environment, actor)
    # Whoever confirms its lift at this moment goes first, and then there is none.
    hold(Lock.STOP)
    known = list(Kill.objects.select_for_update(of=("self",)).filter(kind=kind, lifted_at__isnull=True, **_names(subject)))
    if known:
        return _engage_again(known, reason, actor)
    # What somebody is deleting at this moment is killed by its name alone.
    kept = {f"{column}_id": keep_names(type(row), [row.name]).get(row.name) for column, row in subject.items() if row is not None}
    kill = Kill.objects.create(kind=kind, reason=reason, engaged_by=actor, **_names(subject), **kept)
    _record(Action.KILL_ENGAGED, kill, actor, reason=reason, **_issue_stop())
    return kill


def _issue_stop() -> dict[str, Any]:
    """The next statement, as the event of what made it necessary names it."""
    stop = issue_stop()
    return {"stop_sequence": stop.sequence, "stop_digest": stop.digest}


def _find_subject(kind: str, target: str, environment: str, actor: User) -> Subject:
    """What is killed, None where a kind has none."""
    with refused_as(InvalidInput, "KILL_TARGET"):
        target, environment = name_target(kind, target, environment)
    subject = _find_target(kind, target, actor)
    narrowed_to = Environment.objects.filter(name=environment).first()
    if environment and narrowed_to is None:
        raise NotFound("KILL_TARGET", f"no environment {environment!r}", environment)
    return {"profile": subject.get("profile"), "tenant": subject.get("tenant"), "environment": subject.get("environment") or narrowed_to}


def _names(subject: Subject) -> dict[str, str]:
    """As nodes are told them."""
    target, environment = subject["profile"] or subject["tenant"] or subject["environment"], subject["environment"]
    return {"target": target.name if target else "*", "environment_name": environment.name if environment else ""}


def _record(action: Action, kill: Kill, actor: User, **details: Any) -> None:
    record(
        action,
        actor=actor,
        subject=kill,
        tenant=kill.target if kill.kind == KillKind.TENANT else "",
        environment=kill.environment_name,
        details={"kind": kill.kind, "target": kill.target, **details},
    )


def _find_target(kind: str, name: str, actor: User) -> Subject:
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
def request_lift(kill_id: UUID, *, reason: str, actor: User) -> Kill:
    """engaged -> lift requested. Somebody else must confirm, within `LIFT_REQUEST_LASTS`. Asking again is asking anew.

    Raises: InvalidInput LIFT_REASON.
    """
    kill = _lock_kill(kill_id, actor)
    if not says_something(reason):
        raise InvalidInput("LIFT_REASON", "say why steering may be on again", "reason")
    kill.lift_requested_by, kill.lift_requested_at, kill.lift_reason = actor, timezone.now(), reason
    kill.save(update_fields=LIFT_REQUEST)
    _record(Action.KILL_LIFT_REQUESTED, kill, actor, reason=reason, hours=str(LIFT_REQUEST_LASTS // timedelta(hours=1)))
    return kill


@transition
def withdraw_lift(kill_id: UUID, *, reason: str = "", actor: User) -> Kill:
    """lift requested -> engaged. It keeps steering off, so one person does it: whoever asked, or anybody else who may kill.

    Raises: TransitionRefused LIFT_NOT_REQUESTED.
    """
    kill = _lock_kill(kill_id, actor)
    if kill.lift_requested_by is None:
        raise TransitionRefused("LIFT_NOT_REQUESTED", "nobody asks for the lift of this kill", str(kill_id))
    _withdraw(kill, reason, actor)
    return kill


@transition
def confirm_lift(kill_id: UUID, *, actor: User) -> Kill:
    """lift requested -> lifted, by a second person; in a freeze window not at all, because a lift raises steering.

    Raises: TransitionRefused KILL_LIFT_NEEDS_TWO, LIFT_EXPIRED, LIFT_AUTHOR_LEFT, FREEZE.
    """
    environments = lock_environments(Environment.objects.all())
    hold(Lock.STOP)
    kill = _lock_kill(kill_id, actor)
    _refuse_unasked(kill, actor)
    _refuse_lift_in_freeze(kill, environments)
    kill.lifted_by, kill.lifted_at = actor, timezone.now()
    kill.save(update_fields=["lifted_by", "lifted_at"])
    _record(Action.KILL_LIFTED, kill, actor, asked_by=str(kill.lift_requested_by), reason=kill.lift_reason, **_issue_stop())
    return kill


def _refuse_lift_in_freeze(lifted: Kill, environments: Iterable[Environment]) -> None:
    """Raises TransitionRefused FREEZE where less would be killed in a frozen environment."""
    for environment in environments:
        freeze = freeze_in_force(environment, timezone.now())
        if freeze is None:
            continue
        before = engaged_kills(environment)
        gone = {(kill.kind, kill.target) for kill in before} - {(kill.kind, kill.target) for kill in before.exclude(pk=lifted.pk)}
        for kind, target in gone:
            until = freeze.ends_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
            sentence = f"{environment} is frozen until {until} ({freeze.reason}): the kill of {kind} {target} would be lifted"
            raise TransitionRefused("FREEZE", sentence, environment.name)


def _refuse_unasked(kill: Kill, actor: User) -> None:
    """Raises unless somebody else asked for the lift, lately, and still may."""
    asked_by = kill.lift_requested_by
    if asked_by is None or stands_for(asked_by) == stands_for(actor):
        raise TransitionRefused("KILL_LIFT_NEEDS_TWO", "one person requests the lift and another confirms it", str(kill.pk))
    standing = lift_standing(kill)
    if standing == LiftStanding.EXPIRED:
        raise TransitionRefused("LIFT_EXPIRED", f"{asked_by} asked for the lift too long ago; ask again", str(kill.pk))
    if standing == LiftStanding.AUTHOR_LEFT:
        problem = f"{asked_by}, who asked for the lift, may no longer; somebody who may asks again"
        raise TransitionRefused("LIFT_AUTHOR_LEFT", problem, str(kill.pk))


def _engage_again(kills: Sequence[Kill], reason: str, actor: User) -> Kill:
    """engaged -> engaged, for another reason. What was a reason to lift it was said before that was known.

    There may be several in force of one target, where nodes handed one back.
    """
    _record(Action.KILL_ENGAGED_AGAIN, kills[0], actor, reason=reason)
    for kill in kills:
        if kill.lift_requested_by is not None:
            text = f"{kill} was killed again by {actor}: {reason}. Your request to lift it is withdrawn."
            notify([kill.lift_requested_by], text, about=kill)
            _withdraw(kill, f"killed again: {reason}"[:2000], actor)
    return kills[0]


def _withdraw(kill: Kill, reason: str, actor: User) -> None:
    asked_by = kill.lift_requested_by
    kill.lift_requested_by, kill.lift_requested_at, kill.lift_reason = None, None, ""
    kill.save(update_fields=LIFT_REQUEST)
    _record(Action.KILL_LIFT_WITHDRAWN, kill, actor, asked_by=str(asked_by), reason=reason)


def _lock_kill(kill_id: UUID, actor: User) -> Kill:
    rows = Kill.objects.select_for_update(of=("self",)).select_related("lift_requested_by__acts_for", "tenant")
    kills = kills_visible_to(actor, rows.filter(lifted_at__isnull=True))
    kill = kills.filter(pk=kill_id).first()
    if kill is None:
        raise NotFound("KILL_NOT_FOUND", "no such kill in force", str(kill_id))
    if kill.kind != KillKind.TENANT and is_limited(actor):
        raise TransitionRefused("KILL_BEYOND_TENANTS", f"{actor} is limited to some tenants; this kill reaches others", str(kill_id))
    return kill
