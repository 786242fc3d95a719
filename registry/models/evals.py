"""Eval suites: sealed, versioned items of one kind, in a select and a test split."""

from uuid import uuid4

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from registry.models.fields import DigestField, spelled
from steernode.words import SPLITS, SUITE_KINDS


@spelled(SUITE_KINDS)
class SuiteKind(models.TextChoices):
    BEHAVIOUR = "behaviour"
    FACTUAL = "factual"
    SAFETY = "safety"
    FLUENCY = "fluency"
    CAPABILITY = "capability"


@spelled(SPLITS)
class Split(models.TextChoices):
    """The select split chooses layer and α; the test split is opened once for an axis and a base model, for evidence."""

    SELECT = "select"
    TEST = "test"


class EvalSuite(models.Model):
    """One sealed version of a suite."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.SlugField(max_length=100)
    version = models.PositiveIntegerField()
    kind = models.CharField(max_length=10, choices=SuiteKind)
    digest = DigestField()
    item_count = models.PositiveIntegerField()
    # A behaviour suite is scored by a classifier trained on labelled replies of one axis; others score by rule.
    axis = models.SlugField(max_length=50, blank=True)
    rubric_digest = DigestField(blank=True, default="")
    # Of the items in the test split, which evidence rests on.
    locales = ArrayField(models.CharField(max_length=35), blank=True, default=list)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    sealed_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="eval_suite_version_is_unique"),
            # The same tickets may be judged on several axes, each with a rubric of its own.
            models.UniqueConstraint(fields=["digest", "rubric_digest"], name="eval_suite_content_is_sealed_once"),
            models.CheckConstraint(condition=Q(kind__in=SuiteKind.values), name="eval_suite_kind_is_known"),
            models.CheckConstraint(
                condition=(Q(kind=SuiteKind.BEHAVIOUR) & ~Q(axis="") & ~Q(rubric_digest=""))
                | (~Q(kind=SuiteKind.BEHAVIOUR) & Q(axis="", rubric_digest="")),
                name="eval_suite_has_a_rubric_exactly_when_behaviour",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


class EvalItem(models.Model):
    """One prompt of a suite and what a right answer must show."""

    suite = models.ForeignKey(EvalSuite, models.PROTECT, related_name="items")
    index = models.PositiveIntegerField()
    item_id = models.CharField(max_length=200)
    split = models.CharField(max_length=6, choices=Split)
    messages = models.JSONField()
    expect = models.JSONField()
    prompt_key = DigestField(db_index=True)

    class Meta:
        ordering = ["suite", "index"]
        constraints = [
            models.UniqueConstraint(fields=["suite", "index"], name="eval_item_index_is_unique"),
            models.CheckConstraint(condition=Q(split__in=Split.values), name="eval_item_split_is_known"),
        ]
