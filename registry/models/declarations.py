"""Declarations: which manifest an object was last declared by, and the plans that were applied."""

from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from registry.models.fields import DigestField


class AppliedPlan(models.Model):
    """A plan that was applied. Its digest covers what each object was before, so no plan can be applied twice."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    digest = DigestField()
    applied_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    applied_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-applied_at"]
        constraints = [models.UniqueConstraint(fields=["digest"], name="plan_is_applied_once")]

    def __str__(self) -> str:
        return str(self.digest[:12])


class DeclarationQuerySet(models.QuerySet["Declaration"]):
    def in_force(self) -> "DeclarationQuerySet":
        """Without those whose objects were pruned."""
        return self.exclude(spec_digest="")


class Declaration(models.Model):
    """What the last manifest said of one object, and who owns it. Written by `steer apply` and by nothing else.

    An object that was pruned keeps its declaration, with an empty digest: a later one goes on counting from there.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    kind = models.CharField(max_length=50)
    name = models.CharField(max_length=300)
    # Whoever else declares the object conflicts. Empty: nobody claims it.
    manager = models.CharField(max_length=100, blank=True, default="")
    labels = models.JSONField(default=dict)
    # Rises when the declared spec changes, and never because the record or its status does.
    generation = models.PositiveIntegerField(default=1)
    spec_digest = DigestField(blank=True)
    plan = models.ForeignKey(AppliedPlan, models.PROTECT, related_name="declarations")

    objects = DeclarationQuerySet.as_manager()

    class Meta:
        ordering = ["kind", "name"]
        constraints = [
            models.UniqueConstraint(fields=["kind", "name"], name="declaration_once_per_object"),
            models.CheckConstraint(condition=Q(generation__gte=1), name="declaration_generation_starts_at_one"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"
