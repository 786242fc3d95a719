"""Steering vectors: directions with their lineage. The bytes are in the blob store, named by their sha256."""

from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from registry.models.fields import CoefficientField, DigestField, spelled
from steernode.words import SITES, UNITS


@spelled(SITES)
class Site(models.TextChoices):
    """Where in a layer the residual stream is read and written."""

    RESID_PRE = "resid_pre"
    RESID_MID = "resid_mid"
    RESID_POST = "resid_post"
    ATTN_OUT = "attn_out"
    MLP_OUT = "mlp_out"
    EMBEDDING = "embedding"


@spelled(UNITS)
class Unit(models.TextChoices):
    """What a coefficient of 1 means. See design: α is worth nothing without it."""

    ABSOLUTE = "absolute"
    MEAN_DIFFERENCE = "mean_difference"
    RESIDUAL = "residual"


class SteeringVector(models.Model):
    """One sealed version of a direction at one layer and site of one base model."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.SlugField(max_length=100)
    version = models.PositiveIntegerField()
    base_model = models.ForeignKey("registry.BaseModel", models.PROTECT, related_name="vectors")
    contrast_set = models.ForeignKey("registry.ContrastSet", models.PROTECT, null=True, related_name="vectors")
    # Null for an imported file: then its lineage is what the file claims.
    job = models.OneToOneField("registry.Job", models.PROTECT, null=True, related_name="extracted_vector")
    digest = DigestField(unique=True)
    size_bytes = models.PositiveIntegerField()
    dtype = models.CharField(max_length=4)
    d_model = models.PositiveIntegerField()
    layer = models.PositiveIntegerField()
    site = models.CharField(max_length=10, choices=Site)
    method = models.CharField(max_length=30)
    read_position = models.CharField(max_length=30)
    # What the chat template was given beside the messages, by name. Whatever is served with the vector is asked with these.
    template_arguments = models.JSONField(default=dict, db_default={})
    # Of the mean difference before it was normalised, and of the residual stream it was read from.
    norm = models.DecimalField(max_digits=30, decimal_places=15)
    mean_residual_norm = models.DecimalField(max_digits=30, decimal_places=15)
    # What the search on the select split proposes, and the document that shows why.
    proposed_alpha = CoefficientField(null=True)
    proposed_unit = models.CharField(max_length=15, choices=Unit, blank=True, default="")
    sweep_digest = DigestField(blank=True, default="")
    heatmap_digest = DigestField(blank=True, default="")
    # The picture of the causal trace at the chosen layer's site; its numbers are in the sweep document.
    trace_map_digest = DigestField(blank=True, default="", db_default="")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    sealed_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name", "-version"]
        indexes = [models.Index(fields=["base_model", "name", "-version"], name="vector_by_base_model")]
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="vector_version_is_unique"),
            models.CheckConstraint(condition=Q(site__in=Site.values), name="vector_site_is_known"),
            models.CheckConstraint(condition=Q(dtype__in=["F16", "BF16", "F32"]), name="vector_dtype_is_known"),
            # NaN is greater than every number to PostgreSQL, so the upper bound refuses it too.
            models.CheckConstraint(
                condition=Q(norm__gt=0, norm__lt=1_000_000, mean_residual_norm__gt=0, mean_residual_norm__lt=1_000_000),
                name="vector_norms_are_positive_numbers",
            ),
            models.CheckConstraint(
                condition=Q(proposed_alpha__isnull=True, proposed_unit="")
                | (Q(proposed_alpha__isnull=False) & Q(proposed_unit__in=Unit.values)),
                name="vector_proposal_has_a_unit",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"

    @property
    def is_lineage_claimed(self) -> bool:
        """Whether nobody here made it: what it was read from, and how, is what whoever uploaded the file says."""
        return self.job_id is None
