"""Comparisons: how a new version of a vector differs from the one it replaces."""

from uuid import uuid4

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now


class VectorComparison(models.Model):
    """Written when the new version is sealed; its evidence once both versions are evaluated. Layers and α are in the two vectors."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    vector = models.OneToOneField("registry.SteeringVector", models.PROTECT, related_name="comparison")
    replaced = models.ForeignKey("registry.SteeringVector", models.PROTECT, related_name="replaced_in")
    # Between the two directions; null where that would mean nothing, and then the reason.
    cosine = models.DecimalField(max_digits=7, decimal_places=6, null=True)
    cosine_missing = models.CharField(max_length=300, blank=True, default="")
    # {"behaviour": {"replaced": "4.2", "vector": "4.3", "difference": "0.1"}, ...} of the steered replies; null until there are two.
    evidence = models.JSONField(null=True)
    evidence_missing = models.CharField(max_length=300, blank=True, default="")
    compared_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(vector=F("replaced")), name="comparison_is_of_two_vectors"),
            models.CheckConstraint(
                condition=Q(cosine__isnull=True) | Q(cosine__gte=-1, cosine__lte=1), name="comparison_cosine_is_a_cosine"
            ),
            models.CheckConstraint(
                condition=(Q(cosine__isnull=True) & ~Q(cosine_missing="")) | Q(cosine__isnull=False, cosine_missing=""),
                name="comparison_says_why_there_is_no_cosine",
            ),
            models.CheckConstraint(
                condition=(Q(evidence__isnull=True) & ~Q(evidence_missing="")) | Q(evidence__isnull=False, evidence_missing=""),
                name="comparison_says_why_there_is_no_evidence",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.vector} against {self.replaced}"
