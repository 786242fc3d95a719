"""Gate sets of the organisation: sealed, versioned thresholds with their reasons. Those that ship are data of `steernode`."""

from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from registry.models.fields import DigestField


class GateSet(models.Model):
    """One sealed version. A change is a new version; nothing here is ever edited: registry/guards/gate_set.sql."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.SlugField(max_length=100)
    version = models.PositiveIntegerField()
    # Of the name and all that is below, as `steernode.gates` writes it.
    digest = DigestField(unique=True)
    about = models.TextField(max_length=2000)
    # Each with its metric, kind and threshold, and why.
    gates = models.JSONField()
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    sealed_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="gate_set_version_is_unique"),
            models.CheckConstraint(condition=~Q(gates=[]), name="gate_set_has_a_gate"),
        ]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"
