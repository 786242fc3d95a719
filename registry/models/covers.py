"""Covered forms: the forms of a revision's base model that its approval covers too, though nothing was measured on them."""

from django.db import models
from django.db.models import Q

from steernode.comparison import DTYPE, EQUAL, QUANTISED

FORM_VERDICTS = (EQUAL, DTYPE, QUANTISED)


class CoverableForms(models.TextChoices):
    """Which forms a risk policy lets an approval cover: see `registry.reads.forms.Relation`."""

    NONE = "none"
    CLOSE = "close"
    ANY = "any"


class CoveredForm(models.Model):
    """One form that a revision covers, with what it is to the base model that was measured, as it was when the draft was written.

    It changes only in a draft, and is of the family of the revision's base model: registry/guards/covered_form.sql and revision.sql.
    """

    revision = models.ForeignKey("registry.ProfileRevision", models.PROTECT, related_name="covers")
    base_model = models.ForeignKey("registry.BaseModel", models.PROTECT, related_name="covered_in")
    verdict = models.CharField(max_length=20)
    # The largest difference of a weight, as a part of the largest of its tensor: decimal text, as it stands in the revision's document.
    worst = models.CharField(max_length=100)

    class Meta:
        ordering = ["revision", "base_model"]
        constraints = [
            models.UniqueConstraint(fields=["revision", "base_model"], name="covered_form_once_in_a_revision"),
            models.CheckConstraint(condition=Q(verdict__in=FORM_VERDICTS), name="covered_form_is_a_form"),
        ]

    def __str__(self) -> str:
        return str(self.base_model)
