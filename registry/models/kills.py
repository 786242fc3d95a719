"""The kill switch: what is stopped, by whom, and who lifted it."""

from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from registry.models.fields import spelled
from steernode.words import KILL_KINDS


@spelled(KILL_KINDS)
class KillKind(models.TextChoices):
    PROFILE = "profile"
    TENANT = "tenant"
    ENVIRONMENT = "environment"
    EVERYTHING = "everything"


class Kill(models.Model):
    """One person's immediate return to α = 0. It may only reduce steering; lifting it takes two people.

    A kill of a profile or a tenant reaches every environment, unless it names one. Triggers see to it that what is killed never
    changes, and that the two who lift are two people and not one with a service account (registry/guards/kill.sql).
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    kind = models.CharField(max_length=11, choices=KillKind)
    profile = models.ForeignKey("registry.Profile", models.PROTECT, null=True, blank=True, related_name="kills")
    tenant = models.ForeignKey("registry.Tenant", models.PROTECT, null=True, blank=True, related_name="kills")
    environment = models.ForeignKey("registry.Environment", models.PROTECT, null=True, blank=True, related_name="kills")
    reason = models.TextField(max_length=2000)
    engaged_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    engaged_at = models.DateTimeField(db_default=Now())
    lift_requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    lifted_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    lifted_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-engaged_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind=KillKind.PROFILE, profile__isnull=False, tenant__isnull=True)
                | Q(kind=KillKind.TENANT, profile__isnull=True, tenant__isnull=False)
                | Q(kind=KillKind.ENVIRONMENT, profile__isnull=True, tenant__isnull=True, environment__isnull=False)
                | Q(kind=KillKind.EVERYTHING, profile__isnull=True, tenant__isnull=True, environment__isnull=True),
                name="kill_names_exactly_its_target",
            ),
            models.CheckConstraint(
                condition=Q(lifted_at__isnull=True, lifted_by__isnull=True)
                | (
                    Q(lifted_at__isnull=False, lifted_by__isnull=False, lift_requested_by__isnull=False)
                    & ~Q(lifted_by=F("lift_requested_by"))
                ),
                name="kill_is_lifted_by_two_people",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.target}{f' in {self.environment}' if self.is_narrowed else ''}"

    @property
    def target(self) -> str:
        """The name of what is killed, as nodes are told it."""
        subject = self.profile or self.tenant or self.environment
        return subject.name if subject else "*"

    @property
    def is_narrowed(self) -> bool:
        """Whether a kill of a profile or a tenant is for one environment only."""
        return self.environment_id is not None and self.kind != KillKind.ENVIRONMENT
