"""Invalidation: a revision that loses the ground it was approved on stops steering, and its owners are told why."""

from collections.abc import Sequence

from django.db.models import QuerySet

from registry.audit import Action, Actor, make_entry, record_all
from registry.models import ProfileRevision, RevisionState
from registry.services.notifications import notify

_CAN_LOSE_THEIR_GROUND = (RevisionState.SUBMITTED, RevisionState.APPROVED)
_LONGEST_REASON = 500


def lock_revisions(revisions: QuerySet[ProfileRevision]) -> list[ProfileRevision]:
    """Those of them that can lose their ground, locked. A decision that is under way on one of them finishes first."""
    return list(
        revisions.filter(state__in=_CAN_LOSE_THEIR_GROUND)
        .select_for_update(of=("self",))
        .select_related("profile__owner__acts_for", "author__acts_for", "base_model")
        .order_by("pk")
    )


def invalidate_revisions(revisions: Sequence[ProfileRevision], *, reason: str, actor: Actor) -> None:
    """submitted | approved -> invalidated, for revisions from `lock_revisions`. There is no way back.

    A step of the caller's transition: the caller locks the environments that could steer with them, then the revisions, then
    calls this and publishes. Drafts stay drafts, because nothing was approved yet. `reason` is a sentence for people.
    """
    ProfileRevision.objects.filter(pk__in=[revision.pk for revision in revisions]).update(
        state=RevisionState.INVALIDATED, invalidated_reason=reason[:_LONGEST_REASON]
    )
    record_all(
        [
            make_entry(
                Action.REVISION_INVALIDATED,
                actor=actor,
                subject=revision,
                details={"reason": reason, "was": revision.state, "revision_digest": revision.digest},
                base_model_fingerprint=revision.base_model.fingerprint,
            )
            for revision in revisions
        ]
    )
    for revision in revisions:
        notify([revision.author, revision.profile.owner], f"{revision} is invalidated: {reason}", about=revision)
