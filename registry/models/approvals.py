"""Approvals: one reviewer's decision on one state of a revision and one state of its evidence. And what people say beside it."""

from uuid import uuid4

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from registry.models.fields import DigestField


class Decision(models.TextChoices):
    APPROVE = "approve"
    REJECT = "reject"
    REQUEST_CHANGES = "request_changes"


class Approval(models.Model):
    """One reviewer's decision on one submitted revision. Never edited, never deleted.

    Triggers refuse a decision on anything but the submitted state, and roles that the reviewer does not hold. Composite foreign
    keys keep the copies below true: whose revision it is, and which person each account is of. Both are in registry/guards/approval.sql.
    """

    revision = models.ForeignKey("registry.ProfileRevision", models.PROTECT, related_name="approvals")
    # What the reviewer looked at. An edit changes the digest, and the decision no longer counts.
    revision_digest = DigestField()
    evidence_digest = DigestField()
    # Copied, so that the database itself can compare the two people. A service account is the person that it acts for.
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    author_person = models.BigIntegerField()
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    reviewer_person = models.BigIntegerField()
    # Those that the reviewer held then: a policy may want several, each held by one of those who approve.
    roles = ArrayField(models.CharField(max_length=150))
    decision = models.CharField(max_length=15, choices=Decision)
    comment = models.TextField(max_length=2000, blank=True)
    decided_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["decided_at"]
        constraints = [
            models.CheckConstraint(condition=~Q(reviewer_person=F("author_person")), name="approval_reviewer_is_not_author"),
            models.CheckConstraint(condition=Q(decision__in=Decision.values), name="approval_decision_is_known"),
            models.CheckConstraint(condition=Q(decision=Decision.APPROVE) | Q(comment__regex=r"\S"), name="approval_refusal_says_why"),
            models.UniqueConstraint(
                fields=["revision", "revision_digest", "evidence_digest", "reviewer_person"], name="approval_once_per_person_and_state"
            ),
        ]


class RevisionComment(models.Model):
    """What somebody says about a revision without deciding. Never edited, never deleted: registry/guards/comment.sql."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    revision = models.ForeignKey("registry.ProfileRevision", models.PROTECT, related_name="comments")
    # The state it was said of; empty for a draft.
    revision_digest = DigestField(blank=True, default="")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    text = models.TextField(max_length=2000)
    said_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["said_at"]
        constraints = [models.CheckConstraint(condition=Q(text__regex=r"\S"), name="comment_says_something")]
