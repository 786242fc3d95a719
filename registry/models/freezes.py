"""Freeze windows: times in which nothing may raise steering in an environment."""

from datetime import datetime
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now


class Freeze(models.Model):
    """One window of one environment. It is never moved: it is ended, and another one is declared."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    environment = models.ForeignKey("registry.Environment", models.PROTECT, related_name="freezes")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.TextField(max_length=2000)
    declared_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    declared_at = models.DateTimeField(db_default=Now())
    # Set when somebody ends it before its time.
    ended_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    ended_at = models.DateTimeField(null=True)
    ended_reason = models.TextField(max_length=2000, blank=True, default="")

    class Meta:
        ordering = ["-starts_at"]
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="freeze_ends_after_it_starts"),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True, ended_by__isnull=True, ended_reason="")
                | (Q(ended_at__isnull=False, ended_by__isnull=False) & ~Q(ended_reason="")),
                name="freeze_that_was_ended_says_by_whom_and_why",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.environment} until {self.ends_at:%Y-%m-%d %H:%M} UTC"

    def state_at(self, moment: datetime) -> str:
        """`ended` (by a person), `over`, `planned` or `in force`."""
        if self.ended_at is not None:
            return "ended"
        if moment >= self.ends_at:
            return "over"
        return "planned" if moment < self.starts_at else "in force"
