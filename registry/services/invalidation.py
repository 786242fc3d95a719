"""Invalidation: a revision that loses the ground it was approved on stops steering, and its owners are told why."""

from django.db.models import QuerySet

from registry.audit import Action, Actor, record
from registry.models import ProfileRevision, RevisionState
from registry.services.notifications import notify

_CAN_LOSE_THEIR_GROUND = (RevisionState.SUBMITTED, RevisionState.APPROVED)
_LONGEST_REASON = 500


def invalidate_revisions(revisions: QuerySet[ProfileRevision], *, reason: str, actor: Actor) -> list[ProfileRevision]:
    """submitted | approved -> invalidated, for whichever of these revisions is in such a state. There is no way back.

    A step of the caller's transition: the caller locks the environments that could steer with these revisions before, and
    publishes their snapshots after. Drafts stay drafts, because nothing was approved yet. `reason` is a sentence for people.
    """
    found = list(
        revisions.filter(state__in=_CAN_LOSE_THEIR_GROUND)
        .select_for_update(of=("self",))
        .select_related("profile__owner__acts_for", "author__acts_for", "base_model")
        .order_by("pk")
    )
    for revision in found:
        was, revision.state, revision.invalidated_reason = revision.state, RevisionState.INVALIDATED, reason[:_LONGEST_REASON]
        revision.save(update_fields=["state", "invalidated_reason"])
        record(
            Action.REVISION_INVALIDATED,
            actor=actor,
            subject=revision,
            details={"reason": reason, "was": was, "revision_digest": revision.digest},
            base_model_fingerprint=revision.base_model.fingerprint,
        )
        notify([revision.author, revision.profile.owner], f"{revision} is invalidated: {reason}", about=revision)
    return found
