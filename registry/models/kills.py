"""The kill switch: what is stopped, by whom, and who lifted it."""

from datetime import datetime, timedelta
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from registry.models.fields import DigestField, spelled
from registry.models.people import Role
from steernode.words import KILL_KINDS

# Stopping is never the privilege of whoever happens to be awake.
MAY_KILL = (Role.OPERATOR, Role.APPROVER, Role.ADMIN)
# How long somebody else has to confirm a lift. What was a good reason yesterday is looked at again.
LIFT_REQUEST_LASTS = timedelta(hours=24)


@spelled(KILL_KINDS)
class KillKind(models.TextChoices):
    PROFILE = "profile"
    TENANT = "tenant"
    ENVIRONMENT = "environment"
    EVERYTHING = "everything"


class Kill(models.Model):
    """One person's immediate return to α = 0. It may only reduce steering; lifting it takes two people.

    A kill of a profile or a tenant reaches every environment, unless it names one. Nodes are told of it by stop statements. Triggers
    see to it that what is killed never changes, and that the two who lift are two people, not one with a service account, of whom the
    first still may when the second confirms (registry/guards/kill.sql).
    """

    # In statements too. Never used again: a lift is of this kill and no other.
    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    kind = models.CharField(max_length=11, choices=KillKind)
    # By name, as nodes are told it: what is stopped, `*` for everything, and the only environment that the kill reaches, empty for every
    # one. The keys beside them are of what the record has under that name. A registry that was restored may have nothing: it takes a
    # kill that nodes still obey on record all the same.
    target = models.CharField(max_length=200)
    environment_name = models.CharField(max_length=200, blank=True, default="")
    profile = models.ForeignKey("registry.Profile", models.PROTECT, null=True, blank=True, related_name="kills")
    tenant = models.ForeignKey("registry.Tenant", models.PROTECT, null=True, blank=True, related_name="kills")
    environment = models.ForeignKey("registry.Environment", models.PROTECT, null=True, blank=True, related_name="kills")
    reason = models.TextField(max_length=2000)
    # Nobody's for a kill that nodes handed back; then where it comes from stands below.
    engaged_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    # Of the statement that it was adopted from: who wrote it (the hub itself, before it was restored, or whoever stopped offline), the
    # sha256 of its payload, and the node that handed it back. Empty for a kill that was engaged here.
    issuer = models.CharField(max_length=200, blank=True, default="")
    statement_digest = DigestField(blank=True, default="")
    reported_by = models.ForeignKey("registry.ServingNode", models.PROTECT, null=True, blank=True, related_name="+")
    engaged_at = models.DateTimeField(db_default=Now())
    # All three or none: the request in force, or, once it is lifted, the one that was confirmed. The log has those withdrawn.
    lift_requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    lift_requested_at = models.DateTimeField(null=True)
    lift_reason = models.TextField(max_length=2000, blank=True, default="")
    lifted_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    lifted_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-engaged_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind=KillKind.PROFILE, tenant__isnull=True)
                | Q(kind=KillKind.TENANT, profile__isnull=True)
                | Q(kind=KillKind.ENVIRONMENT, profile__isnull=True, tenant__isnull=True, environment_name=F("target"))
                | Q(kind=KillKind.EVERYTHING, target="*", profile__isnull=True, tenant__isnull=True, environment_name=""),
                name="kill_names_exactly_its_target",
            ),
            models.CheckConstraint(condition=~Q(target=""), name="kill_names_its_target"),
            models.CheckConstraint(
                condition=Q(environment__isnull=True) | ~Q(environment_name=""), name="kill_of_one_environment_names_it"
            ),
            models.CheckConstraint(
                condition=Q(engaged_by__isnull=False, issuer="", statement_digest="", reported_by__isnull=True)
                | (Q(engaged_by__isnull=True, reported_by__isnull=False) & ~Q(issuer="") & ~Q(statement_digest="")),
                name="kill_is_engaged_by_a_person_or_adopted_from_a_statement",
            ),
            models.CheckConstraint(
                condition=Q(lifted_at__isnull=True, lifted_by__isnull=True)
                | (
                    Q(lifted_at__isnull=False, lifted_by__isnull=False, lift_requested_by__isnull=False)
                    & ~Q(lifted_by=F("lift_requested_by"))
                ),
                name="kill_is_lifted_by_two_people",
            ),
            models.CheckConstraint(
                condition=Q(lift_requested_by__isnull=True, lift_requested_at__isnull=True, lift_reason="")
                | Q(lift_requested_by__isnull=False, lift_requested_at__isnull=False, lift_reason__regex=r"\S"),
                name="kill_lift_is_asked_for_by_somebody_for_a_reason",
            ),
            models.CheckConstraint(
                condition=Q(lifted_at__isnull=True) | Q(lifted_at__lte=F("lift_requested_at") + LIFT_REQUEST_LASTS),
                name="kill_lift_is_confirmed_while_the_request_lasts",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.target}{f' in {self.environment_name}' if self.is_narrowed else ''}"

    @property
    def is_narrowed(self) -> bool:
        """Whether a kill of a profile or a tenant is for one environment only."""
        return self.environment_name != "" and self.kind != KillKind.ENVIRONMENT

    @property
    def origin(self) -> str:
        """Who stopped it, in words: a person here, or whoever wrote the statement that it was adopted from."""
        return str(self.engaged_by) if self.engaged_by else f"{self.issuer}, told by {self.reported_by}"

    @property
    def lift_expires_at(self) -> datetime | None:
        """Until when somebody else may confirm the lift; None where nobody asked."""
        return self.lift_requested_at and self.lift_requested_at + LIFT_REQUEST_LASTS
