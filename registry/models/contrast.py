"""Contrast sets: sealed collections of positive and negative conversations on one axis."""

from uuid import uuid4

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from registry.models.fields import DigestField


class ContrastSet(models.Model):
    """One sealed version. A correction is a new version; nothing here is ever edited."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.SlugField(max_length=100)
    version = models.PositiveIntegerField()
    axis = models.SlugField(max_length=50)
    # Of the exact uploaded bytes, which are kept in the blob store.
    digest = DigestField(unique=True)
    pair_count = models.PositiveIntegerField()
    locales = ArrayField(models.CharField(max_length=35))
    products = ArrayField(models.CharField(max_length=50))
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    sealed_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name", "-version"]
        indexes = [models.Index(fields=["axis", "name", "-version"], name="contrast_set_by_axis")]
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="contrast_set_version_is_unique"),
            models.CheckConstraint(condition=Q(pair_count__gte=2), name="contrast_set_has_two_pairs"),
        ]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


class ContrastPair(models.Model):
    """A positive and a negative conversation that differ only in the behaviour."""

    contrast_set = models.ForeignKey(ContrastSet, models.PROTECT, related_name="pairs")
    index = models.PositiveIntegerField()
    pair_id = models.CharField(max_length=200)
    positive = models.JSONField()
    negative = models.JSONField()
    locale = models.CharField(max_length=35)
    product = models.CharField(max_length=50)
    digest = DigestField()
    # What the two sides ask, without system messages: two sets that share it overlap.
    prompt_key = DigestField(db_index=True)

    class Meta:
        ordering = ["contrast_set", "index"]
        constraints = [
            models.UniqueConstraint(fields=["contrast_set", "index"], name="contrast_pair_index_is_unique"),
            models.UniqueConstraint(fields=["contrast_set", "digest"], name="contrast_pair_is_not_repeated"),
        ]
