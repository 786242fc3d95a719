"""Moves of environments: which fingerprint of each base model an environment serves, and what a move to another one takes with it."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db.models import F
from django.utils import timezone

from registry.audit import Action, make_entry, record, record_all
from registry.errors import TransitionRefused
from registry.models import BaseModel, Environment, EnvironmentBaseModel, ProfileRevision, Proposal, TenantFlag, User
from registry.reads.steering import flags_for
from registry.services.invalidation import invalidate_revisions, lock_revisions
from registry.services.notifications import notify
from registry.services.proposals import propose_extractions, tell_of_proposals
from registry.services.transition import lock_environments, publish_at_end, transition
from steernode.files.drift import describe_drift


@dataclass(frozen=True, slots=True)
class Move:
    """What moving did. `previous` is None when the environment served nothing of that name, and equal when nothing moved."""

    environment: Environment
    base_model: BaseModel
    previous: BaseModel | None
    # How the two fingerprints differ, in words.
    changes: list[str] = field(default_factory=list)
    flags_off: list[TenantFlag] = field(default_factory=list)
    invalidated: list[ProfileRevision] = field(default_factory=list)
    proposals: list[Proposal] = field(default_factory=list)


@transition
def move_environment(environment: Environment, *, base_model: BaseModel, actor: User) -> Move:
    """serving one fingerprint of a name -> serving another. To an earlier one it is the same move, and revives nothing.

    Every flag of the environment on a revision for the old fingerprint is turned off; turning it on again is somebody's
    decision. A revision that no environment can use any more is invalidated. Moving to what is served already changes nothing.
    """
    moves = begin_moves(base_model, [environment], actor=actor, environments=lock_environments(Environment.objects.all()))
    finish_moves(moves, actor=actor)
    return moves[0]


def begin_moves(base_model: BaseModel, wanted: Iterable[Environment], *, actor: User, environments: list[Environment]) -> list[Move]:
    """Take the wanted ones of the locked `environments` to the base model, and lock what that turns off or invalidates.

    `environments` are all there are: only so is it certain who else serves what. Nothing is recorded yet, because the log's
    lock comes after all row locks; an approval that is under way finishes first, and is invalidated too.
    """
    keys = {environment.pk for environment in wanted}
    return [_begin_move(environment, base_model, actor) for environment in environments if environment.pk in keys]


def _begin_move(environment: Environment, base_model: BaseModel, actor: User) -> Move:
    served = environment.served.filter(name=base_model.name).select_related("base_model").first()
    previous = served.base_model if served else None
    if previous == base_model:
        return Move(environment, base_model, previous)
    EnvironmentBaseModel.objects.update_or_create(
        environment=environment, name=base_model.name, defaults={"base_model": base_model, "moved_by": actor, "moved_at": timezone.now()}
    )
    if previous is None:
        return Move(environment, base_model, previous)
    move = Move(environment, base_model, previous, describe_drift(previous.manifest, base_model.manifest))
    move.flags_off.extend(_lock_flags(environment, previous))
    move.proposals.extend(propose_extractions(previous, base_model))
    if not previous.served_in.exists():
        move.invalidated.extend(lock_revisions(ProfileRevision.objects.filter(base_model=previous)))
    return move


def finish_moves(moves: Iterable[Move], *, actor: User) -> None:
    """Record what `begin_moves` took where, turn off and invalidate what it locked, tell the owners, and publish."""
    for move in moves:
        if move.previous == move.base_model:
            continue
        why = explain_move(move)
        record(
            Action.ENVIRONMENT_MOVED,
            actor=actor,
            subject=move.environment,
            environment=move.environment.name,
            details={
                "base_model": move.base_model.name,
                "from": move.previous.fingerprint if move.previous else None,
                "to": move.base_model.fingerprint,
                "changes": move.changes,
                "flags_off": len(move.flags_off),
                "invalidated": [str(revision) for revision in move.invalidated],
                "proposed": [str(proposal.vector) for proposal in move.proposals],
            },
            base_model_fingerprint=move.base_model.fingerprint,
        )
        _turn_off(move.flags_off, why, actor)
        invalidate_revisions(move.invalidated, reason=why, actor=actor)
        _tell_owners(move, why)
        tell_of_proposals(move.proposals, why)
        publish_at_end(move.environment, cause=Action.ENVIRONMENT_MOVED, actor=actor)


def explain_move(move: Move) -> str:
    """One sentence: where, from what, to what, and what differs."""
    before = move.previous.fingerprint[:12] if move.previous else "nothing"
    sentence = f"{move.environment} moved {move.base_model.name} from {before} to {move.base_model.fingerprint[:12]}"
    return f"{sentence} ({'; '.join(move.changes)})" if move.changes else sentence


def _lock_flags(environment: Environment, base_model: BaseModel) -> list[TenantFlag]:
    return list(
        flags_for(environment, base_model)
        .select_for_update(of=("self",))
        .select_related("tenant", "environment", "revision__profile__owner__acts_for", "revision__author__acts_for", "changed_by__acts_for")
        .order_by("tenant__name", "route")
    )


def _turn_off(flags: list[TenantFlag], why: str, actor: User) -> None:
    """A flag left on would steer again as soon as somebody moved back, without anyone having looked."""
    TenantFlag.objects.filter(pk__in=[flag.pk for flag in flags]).update(
        enabled=False, reason=why, changed_by=actor, changed_at=timezone.now(), version=F("version") + 1
    )
    record_all(
        [
            make_entry(
                Action.FLAG_CHANGED,
                actor=actor,
                subject=flag,
                tenant=flag.tenant.name,
                environment=flag.environment.name,
                details={"route": flag.route, "enabled": False, "version": flag.version + 1, "reason": why, **_name_revision(flag)},
            )
            for flag in flags
        ]
    )


def _name_revision(flag: TenantFlag) -> dict[str, str | int]:
    if flag.revision is None:
        return {}
    return {"profile": flag.revision.profile.name, "revision": flag.revision.number, "revision_digest": flag.revision.digest}


def _tell_owners(move: Move, why: str) -> None:
    """Whoever set a flag, and whoever owns or wrote a revision that still stands elsewhere. Owners of invalidated ones know."""
    invalidated = {revision.pk for revision in move.invalidated}
    lost: dict[User, set[str]] = defaultdict(set)
    for flag in move.flags_off:
        concerned = [flag.changed_by]
        if flag.revision is not None and flag.revision.pk not in invalidated:
            concerned += [flag.revision.author, flag.revision.profile.owner]
        name = f"{flag.tenant.name}/{flag.route}" if flag.route else flag.tenant.name
        for person in concerned:
            lost[person.acts_for or person].add(f"{name} ({flag.revision})" if flag.revision else name)
    for person, names in lost.items():
        notify([person], f"{why}. Turned off: {', '.join(sorted(names))}", about=move.base_model)


def serve_newest(environment: Environment, *, actor: User) -> None:
    """A new environment begins with the newest fingerprint of every name. The caller holds `Lock.NAMES`."""
    newest = BaseModel.objects.order_by("name", "-registered_at").distinct("name")
    EnvironmentBaseModel.objects.bulk_create(
        EnvironmentBaseModel(environment=environment, name=base_model.name, base_model=base_model, moved_by=actor) for base_model in newest
    )


def check_served(environment: Environment, base_model: BaseModel) -> None:
    """Raises: TransitionRefused BASE_MODEL_NOT_SERVED, with what the environment serves instead."""
    if base_model.served_in.filter(environment=environment).exists():
        return
    served = environment.served.filter(name=base_model.name).select_related("base_model").first()
    instead = f"serves {served.base_model.fingerprint[:12]} of it" if served else "serves nothing of that name"
    raise TransitionRefused(
        "BASE_MODEL_NOT_SERVED", f"the revision is for {base_model}, but {environment} {instead}; move one of the two", base_model.name
    )
