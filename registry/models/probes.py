"""Labelled prompts, sealed in versions, and the probes that jobs make of them."""

from uuid import uuid4

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from registry.models.fields import DigestField
from registry.models.vectors import Site


class PromptSet(models.Model):
    """One sealed version of a set of labelled prompts. A correction is a new version."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.SlugField(max_length=100)
    version = models.PositiveIntegerField()
    # Of the exact uploaded bytes, which are kept in the blob store.
    digest = DigestField(unique=True)
    prompt_count = models.PositiveIntegerField()
    # The words of intent that prompts are labelled with; none where the labels are true and false.
    intents = ArrayField(models.CharField(max_length=64), blank=True, default=list)
    # By split, how many prompts have each label.
    counts = models.JSONField()
    locales = ArrayField(models.CharField(max_length=200))
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    sealed_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name", "-version"]
        constraints = [models.UniqueConstraint(fields=["name", "version"], name="prompt_set_version_is_unique")]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


class Probe(models.Model):
    """One sealed version of a probe: a direction that a prompt is read along, and from where on it fires."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.SlugField(max_length=100)
    version = models.PositiveIntegerField()
    base_model = models.ForeignKey("registry.BaseModel", models.PROTECT, related_name="probes")
    prompt_set = models.ForeignKey(PromptSet, models.PROTECT, related_name="probes")
    job = models.OneToOneField("registry.Job", models.PROTECT, related_name="trained_probe")
    # Of its vector file, which nodes pull. Another threshold on the same direction is another probe of the same file.
    digest = DigestField(db_index=True)
    layer = models.PositiveIntegerField()
    site = models.CharField(max_length=10, choices=Site)
    # Which prompts it fires on, by the word of intent; empty where the labels are true and false.
    intent = models.CharField(max_length=64, blank=True, default="")
    template_arguments = models.JSONField(default=dict, db_default={})
    # As snapshots carry it: vector, layer, site, read position, scale, bias, threshold.
    condition = models.JSONField()
    # What the test split says, copied from the document for lists: AUC and the rates at the threshold, with their intervals.
    held_out = models.JSONField()
    document_digest = DigestField(unique=True)
    roc_digest = DigestField()
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    sealed_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="probe_version_is_unique"),
            models.CheckConstraint(condition=Q(site__in=Site.values), name="probe_site_is_known"),
            models.CheckConstraint(
                condition=Q(condition__has_keys=["vector", "layer", "site", "read_position", "scale", "bias", "threshold"]),
                name="probe_says_when_it_fires",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"
