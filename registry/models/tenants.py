"""Where steering applies: environments and the tenants whose requests they answer."""

from uuid import uuid4

from django.db import models
from django.db.models.functions import Lower, Now


class Environment(models.Model):
    """Where nodes live. It has one snapshot revision, which only rises."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.SlugField(max_length=50, unique=True)
    # Raised under this row's lock, so that commit order is revision order.
    head_revision = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Tenant(models.Model):
    """A customer whose requests may be steered. Default: no steering."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.SlugField(max_length=100, unique=True)
    title = models.CharField(max_length=200, blank=True, default="")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name"]
        # There are thousands, and a new one is compared with all of them: see `services.names`.
        indexes = [models.Index(Lower("name"), name="tenant_by_small_letters")]

    def __str__(self) -> str:
        return self.name
