"""Base models: one exact set of weights, tokenizer, chat template and config."""

from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from registry.models.fields import DigestField


class BaseModel(models.Model):
    """A named, fingerprinted base model. Everything learned from it names the fingerprint, not the name.

    What it is a form of is said once: registry/guards/base_model.sql.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.SlugField(max_length=100)
    # A folder below STEERHUB_MODEL_ROOT, where worker and node find the same files.
    source = models.CharField(max_length=500)
    fingerprint = DigestField()
    architecture = models.CharField(max_length=100)
    n_layers = models.PositiveIntegerField()
    d_model = models.PositiveIntegerField()
    context_length = models.PositiveIntegerField()
    # The canonical document whose sha256 is the fingerprint: the digest of every file.
    manifest = models.JSONField()
    # Of what says where it keeps its blocks and sites. Empty for those registered before that was kept.
    architecture_digest = DigestField(blank=True, default="")
    # What it said to eight fixed prompts, as `steernode.behaviour` has it. Null where nobody measured that.
    behaviour = models.JSONField(null=True)
    # The base model that this one is a form of, and what a comparison of the two found, as `steernode.comparison` has it.
    derived_from = models.ForeignKey("self", models.PROTECT, null=True, related_name="forms")
    comparison = models.JSONField(null=True)
    registered_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    registered_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name", "-registered_at"]
        constraints = [
            models.UniqueConstraint(fields=["name", "fingerprint"], name="base_model_once_per_fingerprint"),
            # What an environment copies of it is held to this by a foreign key.
            models.UniqueConstraint(fields=["id", "name"], name="base_model_id_and_name"),
            models.CheckConstraint(
                condition=Q(derived_from__isnull=True, comparison__isnull=True) | Q(derived_from__isnull=False, comparison__isnull=False),
                name="base_model_is_a_form_by_a_comparison",
            ),
            models.CheckConstraint(condition=~Q(derived_from=F("id")), name="base_model_is_no_form_of_itself"),
            models.CheckConstraint(condition=Q(n_layers__gt=0, d_model__gt=0, context_length__gt=0), name="base_model_has_a_size"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint[:12]})"


class EnvironmentBaseModel(models.Model):
    """Which fingerprint of a name an environment serves now. The audit log has what it served before.

    A foreign key over two columns holds the name to the base model's own: registry/guards/environment_base_model.sql.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    environment = models.ForeignKey("registry.Environment", models.PROTECT, related_name="served")
    # The base model's own name, so that the database can keep one fingerprint of it.
    name = models.SlugField(max_length=100)
    base_model = models.ForeignKey(BaseModel, models.PROTECT, related_name="served_in")
    moved_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    moved_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["environment", "name"]
        constraints = [models.UniqueConstraint(fields=["environment", "name"], name="environment_serves_one_fingerprint_of_a_name")]

    def __str__(self) -> str:
        return f"{self.environment} serves {self.base_model}"
