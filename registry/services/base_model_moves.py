"""Moves of environments: which fingerprint of each base model an environment serves, and what a move to another one takes with it."""

from collections import defaultdict
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import F
from django.utils import timezone

from registry.audit import Action, make_entry, record, record_all
from registry.errors import TransitionRefused
from registry.models import BaseModel, Environment, EnvironmentBaseModel, ProfileRevision, Proposal, TenantFlag, User
from registry.reads.steering import flags_left_behind, revisions_for, served_in, unusable_revisions
from registry.services.invalidation import invalidate_revisions, lock_revisions
from registry.services.notifications import notify
from registry.services.proposals import propose_extractions
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
def move_environment(environment: Environment, *, base_model: BaseModel, actor: User, reason: str = "") -> Move:
    """serving one fingerprint of a name -> serving another. To an earlier one it is the same move, and revives nothing.

    Every flag of the environment on a revision for the old fingerprint is turned off, unless the revision covers the new one as a form
    of it; turning it on again is somebody's decision. A revision that no environment can use any more, by what it was measured on or by
    a form that it covers, is invalidated; an approval of it that is under way finishes first.
    Moving to what is served already changes nothing.
    """
    # All of them: only so is it certain which others serve the old fingerprint.
    lock_environments(Environment.objects.all())
    (environment,) = lock_environments([environment])
    served = environment.served.filter(name=base_model.name).select_related("base_model").first()
    previous = served.base_model if served else None
    if previous == base_model:
        return Move(environment, base_model, previous)
    EnvironmentBaseModel.objects.update_or_create(
        environment=environment, name=base_model.name, defaults={"base_model": base_model, "moved_by": actor, "moved_at": timezone.now()}
    )
    changes = describe_drift(previous.manifest, base_model.manifest) if previous else []
    why = _explain(environment, previous, base_model, changes)
    flags_off = _lock_flags(environment, previous, base_model) if previous else []
    invalidated = lock_revisions(unusable_revisions(previous)) if previous else []
    proposals = propose_extractions(previous, base_model, why=why) if previous else []
    record(
        Action.ENVIRONMENT_MOVED,
        actor=actor,
        subject=environment,
        environment=environment.name,
        details={
            "base_model": base_model.name,
            "reason": reason,
            "from": previous.fingerprint if previous else None,
            "to": base_model.fingerprint,
            "changes": changes,
            "flags_off": len(flags_off),
            "invalidated": [str(revision) for revision in invalidated],
            "proposed": [str(proposal.vector) for proposal in proposals],
        },
        base_model_fingerprint=base_model.fingerprint,
    )
    _turn_off(flags_off, why, actor)
    invalidate_revisions(invalidated, reason=why, actor=actor)
    _notify_owners(flags_off, {revision.pk for revision in invalidated}, base_model, why)
    publish_at_end(environment, cause=Action.ENVIRONMENT_MOVED, actor=actor)
    return Move(environment, base_model, previous, changes, flags_off, invalidated, proposals)


def _explain(environment: Environment, previous: BaseModel | None, base_model: BaseModel, changes: list[str]) -> str:
    """One sentence: where, from what, to what, and what differs."""
    before = previous.fingerprint[:12] if previous else "nothing"
    sentence = f"{environment} moved {base_model.name} from {before} to {base_model.fingerprint[:12]}"
    return f"{sentence} ({'; '.join(changes)})" if changes else sentence


def _lock_flags(environment: Environment, previous: BaseModel, base_model: BaseModel) -> list[TenantFlag]:
    return list(
        flags_left_behind(environment, previous, base_model)
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


def _notify_owners(flags: list[TenantFlag], invalidated: set[UUID], base_model: BaseModel, why: str) -> None:
    """Whoever set a flag, and whoever owns or wrote a revision that still stands elsewhere. Owners of invalidated ones know."""
    lost: dict[User, set[str]] = defaultdict(set)
    for flag in flags:
        concerned = [flag.changed_by]
        if flag.revision is not None and flag.revision.pk not in invalidated:
            concerned += [flag.revision.author, flag.revision.profile.owner]
        name = f"{flag.tenant.name}/{flag.route}" if flag.route else flag.tenant.name
        for person in concerned:
            lost[person.acts_for or person].add(f"{name} ({flag.revision})" if flag.revision else name)
    for person, names in lost.items():
        notify([person], f"{why}. Turned off: {', '.join(sorted(names))}", about=base_model)


def serve_newest(environment: Environment, *, actor: User) -> None:
    """A new environment begins with the newest fingerprint of every name. The caller holds `Lock.NAMES`."""
    newest = BaseModel.objects.order_by("name", "-registered_at").distinct("name")
    EnvironmentBaseModel.objects.bulk_create(
        EnvironmentBaseModel(environment=environment, name=base_model.name, base_model=base_model, moved_by=actor) for base_model in newest
    )


def check_served(environment: Environment, revision: ProfileRevision) -> None:
    """Raises: TransitionRefused BASE_MODEL_NOT_SERVED, with what the environment serves instead."""
    if revisions_for(served_in(environment)).filter(pk=revision.pk).exists():
        return
    base_model, or_forms = revision.base_model, " and forms of it" if revision.covers.exists() else ""
    served = environment.served.filter(name=base_model.name).select_related("base_model").first()
    instead = f"serves {served.base_model.fingerprint[:12]} of it" if served else "serves nothing of that name"
    raise TransitionRefused(
        "BASE_MODEL_NOT_SERVED",
        f"the revision is for {base_model}{or_forms}, but {environment} {instead}; move one of the two",
        base_model.name,
    )
