"""Evaluations: one run of the test split against a candidate. The evidence that an approval names."""

from uuid import uuid4

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from registry.models.fields import CoefficientField, DigestField
from registry.models.vectors import Unit
from steernode.words import CONDITION_KINDS


class Verdict(models.TextChoices):
    """What the gates say of evidence: nothing failed and nothing is left open, something failed, or only more items could tell."""

    PASSED = "pass"
    FAILED = "fail"
    UNDECIDABLE = "undecidable"


class Evaluation(models.Model):
    """What the held-out items said about one vector at one α, or about all components of a revision together.

    Written once by its job, never edited: registry/guards/evaluation.sql. Which test items it looked at, and that they were new, openings
    say.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    vector = models.ForeignKey("registry.SteeringVector", models.PROTECT, null=True, related_name="evaluations")
    # The draft that a composition was asked for. The digest says which components were judged, whatever became of the draft.
    revision = models.ForeignKey("registry.ProfileRevision", models.PROTECT, null=True, related_name="compositions")
    components_digest = DigestField(blank=True, default="", db_default="")
    job = models.OneToOneField("registry.Job", models.PROTECT, related_name="evaluation")
    # Of the vector; each component of a composition has its own, covered by the digest of them all.
    alpha = CoefficientField(null=True)
    unit = models.CharField(max_length=15, choices=Unit, blank=True, default="", db_default="")
    # Where the vector acted, as nodes read it; none is everywhere. The conditions of a composition are in the digest of its components.
    condition = models.JSONField(null=True)
    # What the model was served under, besides what items say themselves.
    system_message = models.TextField(blank=True, default="", db_default="")
    # Of the canonical evidence document in the blob store.
    digest = DigestField(unique=True)
    # Copied from the document for lists: {"behaviour": {"baseline": "1.4", "steered": "4.2"}, ...} and the gates.
    metrics = models.JSONField()
    gates = models.JSONField()
    # As the document says: the gates are judged there, and nowhere else.
    verdict = models.CharField(max_length=11, choices=Verdict)
    # Whose work it is, as persons: of the vectors and probes that were judged, and of the draft. The database writes it, and only then.
    judged_people = ArrayField(models.BigIntegerField(), db_default=[])
    evaluated_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-evaluated_at"]
        indexes = [models.Index(fields=["-evaluated_at", "id"], name="evaluation_newest")]
        constraints = [
            models.UniqueConstraint(
                fields=["components_digest"],
                condition=~Q(components_digest=""),
                name="evaluation_opens_the_test_split_once_per_composition",
            ),
            models.CheckConstraint(
                condition=Q(vector__isnull=False, alpha__isnull=False, unit__in=Unit.values, revision__isnull=True, components_digest="")
                | (Q(vector__isnull=True, alpha__isnull=True, unit="", revision__isnull=False) & ~Q(components_digest="")),
                name="evaluation_is_of_one_vector_or_of_one_composition",
            ),
            models.CheckConstraint(condition=Q(alpha__gte=-1000, alpha__lte=1000), name="evaluation_alpha_is_a_number"),
            models.CheckConstraint(condition=Q(verdict__in=Verdict.values), name="evaluation_verdict_is_known"),
            models.CheckConstraint(
                condition=Q(condition__isnull=True)
                | Q(vector__isnull=False, condition__has_key="kind", condition__kind__in=CONDITION_KINDS),
                name="evaluation_condition_is_of_its_vector",
            ),
        ]

    def __str__(self) -> str:
        if self.alpha is None:
            return f"the components of {self.revision} together"
        return f"{self.vector} at α = {self.alpha.normalize():f} {self.unit}"

    @property
    def passed(self) -> bool:
        return self.verdict == Verdict.PASSED
