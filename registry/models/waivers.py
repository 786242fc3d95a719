"""Waivers: two people answer for one gate on which nothing can be concluded, for a reason and until a day."""

from datetime import timedelta
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

# What nobody could show for a year is shown, or steers no more.
LONGEST_WAIVER = timedelta(days=366)


class Waiver(models.Model):
    """Of one undecidable gate of one evaluation: asked for by one approver, confirmed by another, and neither made what was judged.

    It counts once it is confirmed, until it ends or is withdrawn. Triggers see to it that the gate is undecidable there, that the two
    are two people and no authors, and that nothing of it changes (registry/guards/waiver.sql).
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    evaluation = models.ForeignKey("registry.Evaluation", models.PROTECT, related_name="waivers")
    # The gate, as the evidence has it.
    metric = models.CharField(max_length=100)
    kind = models.CharField(max_length=100)
    threshold = models.CharField(max_length=62)
    reason = models.TextField(max_length=2000)
    ends_at = models.DateTimeField()
    # With copies of the person, so that the database itself can compare the two. A service account is the person that it acts for.
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    asked_by_person = models.BigIntegerField()
    asked_at = models.DateTimeField(db_default=Now())
    confirmed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    confirmed_by_person = models.BigIntegerField(null=True)
    confirmed_at = models.DateTimeField(null=True)
    withdrawn_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    withdrawn_at = models.DateTimeField(null=True)
    withdrawn_reason = models.TextField(max_length=2000, blank=True, default="", db_default="")

    class Meta:
        ordering = ["asked_at"]
        constraints = [
            models.CheckConstraint(condition=Q(reason__regex=r"\S"), name="waiver_says_why"),
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("asked_at"), ends_at__lte=F("asked_at") + LONGEST_WAIVER), name="waiver_ends_within_a_year"
            ),
            models.CheckConstraint(
                condition=Q(confirmed_by__isnull=True, confirmed_by_person__isnull=True, confirmed_at__isnull=True)
                | (
                    Q(confirmed_by__isnull=False, confirmed_by_person__isnull=False, confirmed_at__isnull=False)
                    & ~Q(confirmed_by_person=F("asked_by_person"))
                ),
                name="waiver_is_given_by_two_people",
            ),
            models.CheckConstraint(
                condition=Q(withdrawn_by__isnull=True, withdrawn_at__isnull=True, withdrawn_reason="")
                | Q(withdrawn_by__isnull=False, withdrawn_at__isnull=False, withdrawn_reason__regex=r"\S"),
                name="waiver_is_withdrawn_by_somebody_for_a_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"waiver of {self.metric} {self.kind} {self.threshold}"
