"""Decisions on submitted revisions. Approval is of a state, not of a ticket."""

from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import F
from django.utils import timezone

from registry.audit import Action, Actor, record
from registry.errors import InvalidInput, TransitionRefused
from registry.models import Approval, Decision, ProfileRevision, RevisionComment, RevisionState, Role, User
from registry.reads.departures import still_may
from registry.reads.documents import COVERS, policy_document, waiver_details
from registry.reads.evidence import fresh_approvals, valid_approvals
from registry.services.covers import details_of
from registry.services.demands import check_revision, missing_approvals, refuse_unmet
from registry.services.notifications import notify
from registry.services.people import stands_for
from registry.services.transition import transition
from steernode.spelling import says_something


@transition
def approve_revision(revision_id: UUID, *, reviewer: User, revision_digest: str, evidence_digest: str, comment: str) -> ProfileRevision:
    """submitted -> approved, once enough people other than the author agree, who hold every role that the policy wants.

    What the policy demands is checked again: evidence grows old while it waits. The row lock makes two simultaneous reviewers
    queue instead of race.
    An approval counts towards it only while whoever gave it still may, and the whole only while its author does.
    Raises: TransitionRefused REVISION_STATE, DIGEST_MISMATCH, SELF_APPROVAL, ALREADY_DECIDED, AUTHOR_LEFT, POLICY_CHANGED; the
    codes of `services.demands` and `services.gate_demands`.
    """
    revision = _lock_for_decision(revision_id, reviewer, revision_digest, evidence_digest)
    if not still_may(revision.author, Role.AUTHOR):
        problem = f"{revision.author}, who submitted {revision}, may no longer; somebody who may drafts a revision of their own"
        raise TransitionRefused("AUTHOR_LEFT", problem, str(revision))
    if revision.demands != policy_document(revision.profile.risk_class):
        raise TransitionRefused(
            "POLICY_CHANGED", f"{revision} was submitted under other terms of its risk policy; submit it again", str(revision)
        )
    refuse_unmet(check_revision(revision, revision.evaluation, revision.demands))
    _decide(revision, reviewer, Decision.APPROVE, comment, Action.REVISION_APPROVAL_GIVEN)
    if missing_approvals(revision):
        return revision
    revision.state, revision.decided_at = RevisionState.APPROVED, timezone.now()
    # With the first of its waivers it loses the ground that it is approved on.
    ends = [datetime.fromisoformat(waiver["ends_at"]) for waiver in revision.waivers]
    revision.review_due_at = min([revision.decided_at + timedelta(days=revision.demands["review_after_days"]), *ends])
    revision.save(update_fields=["state", "decided_at", "review_due_at"])
    covers = COVERS.filter(revision=revision)
    _record(
        Action.REVISION_APPROVED,
        revision,
        reviewer,
        approvals=len({approval.reviewer_person for approval in valid_approvals(revision)}),
        review_due_at=revision.review_due_at.isoformat(),
        **details_of(covers),
        **waiver_details(revision),
    )
    return revision


@transition
def reject_revision(revision_id: UUID, *, reviewer: User, revision_digest: str, evidence_digest: str, comment: str) -> ProfileRevision:
    """submitted -> rejected, by any one reviewer other than the author, who says why. The author drafts a new revision."""
    revision = _lock_for_decision(revision_id, reviewer, revision_digest, evidence_digest)
    _decide(revision, reviewer, Decision.REJECT, comment, Action.REVISION_REJECTED)
    revision.state, revision.decided_at = RevisionState.REJECTED, timezone.now()
    revision.save(update_fields=["state", "decided_at"])
    notify([revision.author, revision.profile.owner], f"{revision} is rejected: {comment}", about=revision)
    return revision


@transition
def request_changes(revision_id: UUID, *, reviewer: User, revision_digest: str, evidence_digest: str, comment: str) -> ProfileRevision:
    """submitted -> draft, by any one reviewer other than the author, who says why. Approvals already given are void."""
    revision = _lock_for_decision(revision_id, reviewer, revision_digest, evidence_digest)
    _decide(revision, reviewer, Decision.REQUEST_CHANGES, comment, Action.REVISION_CHANGES_REQUESTED)
    return_to_draft(revision, reason=f"{reviewer} asks for changes: {comment}")
    return revision


@transition
def comment_on_revision(revision_id: UUID, *, author: User, text: str) -> RevisionComment:
    """Say something about a revision, in whatever state it is. Raises: InvalidInput COMMENT_MISSING."""
    _need_words(text)
    revision = ProfileRevision.objects.select_for_update(of=("self",)).select_related("profile", "base_model").get(pk=revision_id)
    comment = RevisionComment.objects.create(revision=revision, revision_digest=revision.digest, author=author, text=text)
    record(
        Action.REVISION_COMMENTED,
        actor=author,
        subject=revision,
        details={"revision_digest": revision.digest, "text": text},
        base_model_fingerprint=revision.base_model.fingerprint,
    )
    return comment


def expire_approvals() -> int:
    """Return to their authors what has waited so long that an approval given to it has expired. How many revisions."""
    given = Approval.objects.filter(
        decision=Decision.APPROVE, revision__state=RevisionState.SUBMITTED, revision_digest=F("revision__digest")
    )
    rows = given.values_list("revision_id", "decided_at", "revision__demands")
    now = timezone.now()
    expired = {key for key, decided_at, demands in rows if decided_at <= now - timedelta(days=demands.get("approval_valid_days", 0))}
    return sum(_return_if_expired(key) for key in sorted(expired))


@transition
def _return_if_expired(revision_id: UUID) -> bool:
    """submitted -> draft. A reviewer does not decide twice on one state, so the author submits it again as another."""
    revision = _lock(revision_id)
    given = revision.approvals.filter(decision=Decision.APPROVE, revision_digest=revision.digest)
    if revision.state != RevisionState.SUBMITTED or not given.exclude(pk__in=fresh_approvals(revision).values("pk")).exists():
        return False
    reason = "an approval expired before there were enough"
    _record(Action.REVISION_RETURNED, revision, "scheduler", reason=reason)
    return_to_draft(revision, reason=reason)
    return True


def return_to_draft(revision: ProfileRevision, *, reason: str) -> None:
    """A locked revision -> draft, and tell its author and owner. The caller records why."""
    revision.reopen()
    revision.save()
    notify([revision.author, revision.profile.owner], f"{revision} is a draft again: {reason}", about=revision)


def _lock(revision_id: UUID) -> ProfileRevision:
    related = ("profile__risk_class", "profile__owner__acts_for", "author__acts_for", "base_model", "evaluation")
    return ProfileRevision.objects.select_for_update(of=("self",)).select_related(*related).get(pk=revision_id)


def _lock_for_decision(revision_id: UUID, reviewer: User, revision_digest: str, evidence_digest: str) -> ProfileRevision:
    revision = _lock(revision_id)
    if stands_for(revision.author) == stands_for(reviewer):
        raise TransitionRefused(
            "SELF_APPROVAL", f"{reviewer} wrote {revision}; authors do not decide on their own revisions", str(revision)
        )
    same_state = revision.approvals.filter(revision_digest=revision_digest, evidence_digest=evidence_digest)
    if same_state.filter(reviewer_person=stands_for(reviewer)).exists():
        raise TransitionRefused("ALREADY_DECIDED", f"{reviewer} has decided on {revision} already", str(revision))
    if revision.state not in (RevisionState.SUBMITTED, RevisionState.DRAFT):
        raise TransitionRefused("REVISION_STATE", f"{revision} is {revision.state}, not submitted", str(revision))
    shown = (revision.digest, revision.evaluation.digest if revision.evaluation else "")
    if shown != (revision_digest, evidence_digest):
        raise TransitionRefused("DIGEST_MISMATCH", f"{revision} or its evidence changed since it was read; look at it again", str(revision))
    if revision.state != RevisionState.SUBMITTED:
        raise TransitionRefused("REVISION_STATE", f"{revision} is {revision.state}, not submitted", str(revision))
    return revision


def _decide(revision: ProfileRevision, reviewer: User, decision: Decision, comment: str, action: Action) -> None:
    """The decision and its event. Raises: InvalidInput COMMENT_MISSING for anything but an approval without a word."""
    if decision != Decision.APPROVE:
        _need_words(comment)
    if revision.evaluation is None:
        raise TransitionRefused("EVIDENCE_MISSING", f"{revision} names no evaluation", str(revision))
    Approval.objects.create(
        revision=revision,
        revision_digest=revision.digest,
        evidence_digest=revision.evaluation.digest,
        author=revision.author,
        author_person=stands_for(revision.author),
        reviewer=reviewer,
        reviewer_person=stands_for(reviewer),
        roles=sorted(reviewer.held_roles()),
        decision=decision,
        comment=comment,
    )
    _record(action, revision, reviewer, comment=comment)


def _need_words(text: str) -> None:
    if not says_something(text):
        raise InvalidInput("COMMENT_MISSING", "say why", "comment")


def _record(action: Action, revision: ProfileRevision, actor: Actor, **details: object) -> None:
    evidence = revision.evaluation.digest if revision.evaluation else ""
    record(
        action,
        actor=actor,
        subject=revision,
        details={"revision_digest": revision.digest, "evidence_digest": evidence, **details},
        base_model_fingerprint=revision.base_model.fingerprint,
    )
