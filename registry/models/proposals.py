"""Proposals: extract a vector again, by the same recipe, for the fingerprint that an environment moved to."""

from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

PROPOSAL_STATES = {
    "proposed": Q(job__isnull=True, declined_at__isnull=True),
    "accepted": Q(job__isnull=False),
    "declined": Q(declined_at__isnull=False),
}


class Proposal(models.Model):
    """Never runs by itself: an author accepts it, and that queues the job, or declines it, and it is off the list."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    # What the move left without a base model, and what it would be extracted from now.
    vector = models.ForeignKey("registry.SteeringVector", models.PROTECT, related_name="proposals")
    base_model = models.ForeignKey("registry.BaseModel", models.PROTECT, related_name="proposals")
    # The profile that steered with the vector: the job goes on to a draft revision of it.
    profile = models.ForeignKey("registry.Profile", models.PROTECT, null=True, related_name="proposals")
    proposed_at = models.DateTimeField(db_default=Now())
    # Null until somebody accepts. A job that failed or was cancelled may be followed by another.
    job = models.OneToOneField("registry.Job", models.PROTECT, null=True, related_name="proposal")
    accepted_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    accepted_at = models.DateTimeField(null=True)
    # Whoever declined may think again: accepting clears these.
    declined_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    declined_at = models.DateTimeField(null=True)
    declined_reason = models.TextField(max_length=2000, blank=True, default="")

    class Meta:
        ordering = ["-proposed_at", "vector"]
        constraints = [
            models.UniqueConstraint(fields=["vector", "base_model"], name="proposal_once_for_a_vector_and_a_base_model"),
            models.CheckConstraint(
                condition=Q(job__isnull=True, accepted_by__isnull=True, accepted_at__isnull=True)
                | Q(job__isnull=False, accepted_by__isnull=False, accepted_at__isnull=False),
                name="proposal_has_a_job_exactly_when_somebody_accepted",
            ),
            models.CheckConstraint(
                condition=Q(declined_by__isnull=True, declined_at__isnull=True, declined_reason="")
                | Q(declined_by__isnull=False, declined_at__isnull=False, job__isnull=True) & ~Q(declined_reason=""),
                name="proposal_is_declined_by_somebody_for_a_reason_or_not",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.vector} for {self.base_model}"

    @property
    def state(self) -> str:
        """One of `PROPOSAL_STATES`. How far the job is, the job says."""
        if self.job_id:
            return "accepted"
        return "declined" if self.declined_at else "proposed"
