"""Where steering applies: environments, tenants, their flags, and the kills that override all of it."""

from decimal import Decimal
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from registry.models.fields import CoefficientField


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

    def __str__(self) -> str:
        return self.name


class TenantFlag(models.Model):
    """(environment, tenant, route) -> an approved revision, on or off, and its α scale."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    environment = models.ForeignKey(Environment, models.PROTECT, related_name="flags")
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="flags")
    # Empty for all routes of the tenant.
    route = models.CharField(max_length=100, blank=True, default="")
    revision = models.ForeignKey("registry.ProfileRevision", models.PROTECT, related_name="flags")
    enabled = models.BooleanField(default=False)
    alpha_scale = CoefficientField(default=Decimal(1))
    reason = models.TextField(max_length=2000)
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    changed_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["environment", "tenant", "route"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "tenant", "route"], name="flag_once_per_environment_tenant_and_route"),
            models.CheckConstraint(condition=Q(alpha_scale__gte=0, alpha_scale__lte=10), name="flag_alpha_scale_is_between_0_and_10"),
        ]

    def __str__(self) -> str:
        return f"{self.environment}/{self.tenant}{'/' + self.route if self.route else ''}"


class KillKind(models.TextChoices):
    PROFILE = "profile"
    TENANT = "tenant"
    ENVIRONMENT = "environment"
    EVERYTHING = "everything"


class Kill(models.Model):
    """One person's immediate return to α = 0. It may only reduce steering; lifting it takes two people."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    kind = models.CharField(max_length=11, choices=KillKind)
    profile = models.ForeignKey("registry.Profile", models.PROTECT, null=True, blank=True, related_name="kills")
    tenant = models.ForeignKey(Tenant, models.PROTECT, null=True, blank=True, related_name="kills")
    environment = models.ForeignKey(Environment, models.PROTECT, null=True, blank=True, related_name="kills")
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
                condition=Q(kind=KillKind.PROFILE, profile__isnull=False, tenant__isnull=True, environment__isnull=True)
                | Q(kind=KillKind.TENANT, profile__isnull=True, tenant__isnull=False, environment__isnull=True)
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
        return f"{self.kind} {self.target}"

    @property
    def target(self) -> str:
        """The name of what is killed, as nodes are told it."""
        subject = self.profile or self.tenant or self.environment
        return subject.name if subject else "*"
