"""Evaluations: one run of the test split against a candidate. The evidence that an approval names."""

from uuid import uuid4

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from registry.models.fields import CoefficientField, DigestField
from registry.models.vectors import Unit


class Evaluation(models.Model):
    """What the held-out items said about one vector at one α. Written once by its job, never edited."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    vector = models.ForeignKey("registry.SteeringVector", models.PROTECT, related_name="evaluations")
    job = models.OneToOneField("registry.Job", models.PROTECT, related_name="evaluation")
    alpha = CoefficientField()
    unit = models.CharField(max_length=15, choices=Unit)
    # Of the canonical evidence document in the blob store.
    digest = DigestField(unique=True)
    # Copied from the document for lists: {"behaviour": {"baseline": "1.4", "steered": "4.2"}, ...} and the gates.
    metrics = models.JSONField()
    gates = models.JSONField()
    passed = models.BooleanField()
    evaluated_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-evaluated_at"]
        constraints = [
            # A second look at the test split would make it a select split. Another α needs another vector version.
            models.UniqueConstraint(fields=["vector"], name="evaluation_opens_the_test_split_once"),
            models.CheckConstraint(condition=Q(unit__in=Unit.values), name="evaluation_unit_is_known"),
            models.CheckConstraint(condition=Q(alpha__gte=-1000, alpha__lte=1000), name="evaluation_alpha_is_a_number"),
        ]

    def __str__(self) -> str:
        return f"{self.vector} at α = {self.alpha.normalize():f} {self.unit}"
