"""Approvals: one reviewer's decision on one state of a revision and one state of its evidence."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from registry.models.fields import DigestField


class Decision(models.TextChoices):
    APPROVE = "approve"
    REJECT = "reject"


class Approval(models.Model):
    """One reviewer's decision on one submitted revision. Never edited, never deleted."""

    revision = models.ForeignKey("registry.ProfileRevision", models.PROTECT, related_name="approvals")
    # What the reviewer looked at. An edit changes the digest, and the decision no longer counts.
    revision_digest = DigestField()
    evidence_digest = DigestField()
    # Copied from the revision, so that the database itself can compare the two people.
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    decision = models.CharField(max_length=7, choices=Decision)
    comment = models.TextField(max_length=2000)
    decided_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["decided_at"]
        constraints = [
            models.CheckConstraint(condition=~Q(reviewer=F("author")), name="approval_reviewer_is_not_author"),
            models.CheckConstraint(condition=Q(decision__in=Decision.values), name="approval_decision_is_known"),
            models.UniqueConstraint(
                fields=["revision", "revision_digest", "evidence_digest", "reviewer"], name="approval_once_per_reviewer_and_state"
            ),
        ]
