"""Decisions on submitted revisions. Approval is of a state, not of a ticket."""

from uuid import UUID

from django.utils import timezone

from registry.audit import Action, record
from registry.errors import TransitionRefused
from registry.models import Approval, Decision, ProfileRevision, RevisionState, User
from registry.selectors import valid_approvals
from registry.services.people import stands_for
from registry.transitions import transition


@transition
def approve_revision(revision_id: UUID, *, reviewer: User, revision_digest: str, evidence_digest: str, comment: str) -> ProfileRevision:
    """submitted -> approved, once enough reviewers other than the author agree.

    The row lock makes two simultaneous reviewers queue instead of race.
    Raises: TransitionRefused REVISION_STATE, DIGEST_MISMATCH, SELF_APPROVAL, ALREADY_DECIDED.
    """
    revision = _lock_for_decision(revision_id, reviewer, revision_digest, evidence_digest)
    _decide(revision, reviewer, Decision.APPROVE, comment)
    record(
        Action.REVISION_APPROVAL_GIVEN,
        actor=reviewer,
        subject=revision,
        details={"revision_digest": revision_digest, "evidence_digest": evidence_digest, "comment": comment},
        base_model_fingerprint=revision.base_model.fingerprint,
    )
    people = {stands_for(approval.reviewer) for approval in valid_approvals(revision).select_related("reviewer")}
    if len(people) >= revision.approvals_needed:
        revision.state, revision.decided_at = RevisionState.APPROVED, timezone.now()
        revision.save(update_fields=["state", "decided_at"])
        record(
            Action.REVISION_APPROVED,
            actor=reviewer,
            subject=revision,
            details={"revision_digest": revision_digest, "evidence_digest": evidence_digest, "approvals": len(people)},
            base_model_fingerprint=revision.base_model.fingerprint,
        )
    return revision


@transition
def reject_revision(revision_id: UUID, *, reviewer: User, revision_digest: str, evidence_digest: str, comment: str) -> ProfileRevision:
    """submitted -> rejected, by any one reviewer other than the author. The author drafts a new revision."""
    revision = _lock_for_decision(revision_id, reviewer, revision_digest, evidence_digest)
    _decide(revision, reviewer, Decision.REJECT, comment)
    revision.state, revision.decided_at = RevisionState.REJECTED, timezone.now()
    revision.save(update_fields=["state", "decided_at"])
    record(
        Action.REVISION_REJECTED,
        actor=reviewer,
        subject=revision,
        details={"revision_digest": revision_digest, "evidence_digest": evidence_digest, "comment": comment},
        base_model_fingerprint=revision.base_model.fingerprint,
    )
    return revision


def _lock_for_decision(revision_id: UUID, reviewer: User, revision_digest: str, evidence_digest: str) -> ProfileRevision:
    revision = (
        ProfileRevision.objects.select_for_update(of=("self",))
        .select_related("profile", "author", "base_model", "evaluation")
        .get(pk=revision_id)
    )
    if stands_for(revision.author) == stands_for(reviewer):
        raise TransitionRefused(
            "SELF_APPROVAL", f"{reviewer} wrote {revision}; authors do not decide on their own revisions", str(revision)
        )
    if revision.approvals.filter(reviewer=reviewer, revision_digest=revision_digest, evidence_digest=evidence_digest).exists():
        raise TransitionRefused("ALREADY_DECIDED", f"{reviewer} has decided on {revision} already", str(revision))
    if revision.state not in (RevisionState.SUBMITTED, RevisionState.DRAFT):
        raise TransitionRefused("REVISION_STATE", f"{revision} is {revision.state}, not submitted", str(revision))
    shown = (revision.digest, revision.evaluation.digest if revision.evaluation else "")
    if shown != (revision_digest, evidence_digest):
        raise TransitionRefused("DIGEST_MISMATCH", f"{revision} or its evidence changed since it was read; look at it again", str(revision))
    if revision.state != RevisionState.SUBMITTED:
        raise TransitionRefused("REVISION_STATE", f"{revision} is {revision.state}, not submitted", str(revision))
    return revision


def _decide(revision: ProfileRevision, reviewer: User, decision: Decision, comment: str) -> None:
    if revision.evaluation is None:
        raise TransitionRefused("EVIDENCE_MISSING", f"{revision} names no evaluation", str(revision))
    Approval.objects.create(
        revision=revision,
        revision_digest=revision.digest,
        evidence_digest=revision.evaluation.digest,
        author=revision.author,
        reviewer=reviewer,
        decision=decision,
        comment=comment,
    )
