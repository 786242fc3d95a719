"""Flags: what a tenant is steered by in one environment, for which share of its callers, and what a request may ask for."""

from decimal import Decimal
from uuid import uuid4

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now, Trim

from registry.models.fields import CoefficientField, spelled
from steernode.words import FLAG_FIELDS, MAX_ARM_WEIGHT, MAX_ARMS, RESERVED_ARM_NAMES


@spelled(FLAG_FIELDS)
class FlagField(models.TextChoices):
    """What the flag of a route may take from the tenant's flag. Whether it is on, it says itself."""

    REVISION = "revision"
    ALPHA_SCALE = "alpha_scale"
    ROLLOUT = "rollout"
    ARMS = "arms"
    OVERRIDE = "override"


def _states_or_inherits(field: FlagField) -> models.CheckConstraint:
    inherited = Q(inherits__contains=[field.value])
    is_null = Q(**{f"{field.value}__isnull": True})
    return models.CheckConstraint(condition=(inherited & is_null) | (~inherited & ~is_null), name=f"flag_states_or_inherits_{field.value}")


# Unicode's composed form.
_COMPOSED_ROUTE = models.Func(F("route"), template="normalize(%(expressions)s, NFC)", output_field=models.TextField())


class TenantFlag(models.Model):
    """(environment, tenant, route) -> an approved revision, on or off, how much of it, and for whom.

    The route is empty for the tenant's flag, which is for every route without one of its own. A route's flag takes from the
    tenant's whatever `inherits` names, and is off whenever the tenant's is: see `registry.reads.inheritance`.
    Its stamp is drawn by registry/guards/flag.sql.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    environment = models.ForeignKey("registry.Environment", models.PROTECT, related_name="flags")
    tenant = models.ForeignKey("registry.Tenant", models.PROTECT, related_name="flags")
    route = models.CharField(max_length=100, blank=True, default="")
    enabled = models.BooleanField(default=False)
    inherits = ArrayField(models.CharField(max_length=11, choices=FlagField), blank=True, default=list, db_default=[])
    revision = models.ForeignKey("registry.ProfileRevision", models.PROTECT, null=True, blank=True, related_name="flags")
    alpha_scale = CoefficientField(null=True, blank=True, default=Decimal(1))
    # The share of callers, in percent, in steps of a thousandth.
    rollout = models.DecimalField(max_digits=6, decimal_places=3, null=True, blank=True, default=Decimal(100), db_default=Decimal(100))
    # Which callers these are, and which arm each is in: see `steernode.snapshot.rollout`. Drawn when a rollout or a test starts; empty
    # where there is nothing to split, or of a split from before there were salts.
    rollout_salt = models.CharField(max_length=40, blank=True, default="", db_default="")
    arms_salt = models.CharField(max_length=40, blank=True, default="", db_default="")
    # What a request may ask for as the α of the first component; null for none.
    override_min = CoefficientField(null=True, blank=True)
    override_max = CoefficientField(null=True, blank=True)
    reason = models.TextField(max_length=2000)
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    changed_at = models.DateTimeField(db_default=Now())
    # Counts the changes, so that an edit of an older state can be told.
    version = models.PositiveIntegerField(default=1, db_default=1)
    # Drawn anew with every write of the row or of its arms, whoever writes.
    stamp = models.BigIntegerField(default=0, db_default=0, editable=False)

    class Meta:
        ordering = ["environment", "tenant", "route"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "tenant", "route"], name="flag_once_per_environment_tenant_and_route"),
            # As requests' routes are compared: see `steernode.spelling`.
            models.CheckConstraint(condition=Q(route=Trim(_COMPOSED_ROUTE)), name="flag_route_is_in_its_one_form"),
            models.CheckConstraint(
                condition=Q(alpha_scale__isnull=True) | Q(alpha_scale__gte=0, alpha_scale__lte=10),
                name="flag_alpha_scale_is_between_0_and_10",
            ),
            models.CheckConstraint(condition=Q(rollout__isnull=True) | Q(rollout__gte=0, rollout__lte=100), name="flag_rollout_is_a_share"),
            models.CheckConstraint(
                condition=Q(override_min__isnull=True, override_max__isnull=True)
                # Named as not null, because a comparison with null is not false, and so would pass.
                | Q(override_min__isnull=False, override_max__isnull=False)
                & Q(override_min__gte=-1000, override_max__lte=1000, override_max__gte=F("override_min")),
                name="flag_override_is_a_range",
            ),
            models.CheckConstraint(condition=Q(inherits__contained_by=FlagField.values), name="flag_inherits_fields_that_exist"),
            models.CheckConstraint(condition=Q(inherits=[]) | ~Q(route=""), name="flag_of_a_tenant_inherits_nothing"),
            _states_or_inherits(FlagField.REVISION),
            _states_or_inherits(FlagField.ALPHA_SCALE),
            _states_or_inherits(FlagField.ROLLOUT),
            models.CheckConstraint(
                condition=~Q(inherits__contains=[FlagField.OVERRIDE.value]) | Q(override_min__isnull=True),
                name="flag_that_inherits_its_override_states_none",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.environment}/{self.tenant}{'/' + self.route if self.route else ''}"


_RESERVED_ARM = rf"^\s*({'|'.join(RESERVED_ARM_NAMES)})\s*$"


class FlagArm(models.Model):
    """One side of an A/B test: `weight` parts of the callers. What an arm leaves open, it has from its flag.

    Writing one draws a new stamp for its flag: registry/guards/flag.sql.
    """

    flag = models.ForeignKey(TenantFlag, models.CASCADE, related_name="arms")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=50)
    weight = models.PositiveSmallIntegerField()
    revision = models.ForeignKey("registry.ProfileRevision", models.PROTECT, null=True, blank=True, related_name="+")
    alpha_scale = CoefficientField(null=True, blank=True)

    class Meta:
        ordering = ["flag", "position"]
        constraints = [
            models.UniqueConstraint(fields=["flag", "position"], name="arm_position_is_unique"),
            models.UniqueConstraint(fields=["flag", "name"], name="arm_name_is_unique"),
            models.CheckConstraint(condition=Q(position__lt=MAX_ARMS), name="arm_is_one_of_ten"),
            models.CheckConstraint(condition=~Q(name=""), name="arm_has_a_name"),
            models.CheckConstraint(condition=~Q(name__iregex=_RESERVED_ARM), name="arm_name_is_not_reserved"),
            models.CheckConstraint(condition=Q(weight__gte=1, weight__lte=MAX_ARM_WEIGHT), name="arm_weight_is_between_1_and_1000"),
            models.CheckConstraint(
                condition=Q(alpha_scale__isnull=True) | Q(alpha_scale__gte=0, alpha_scale__lte=10),
                name="arm_alpha_scale_is_between_0_and_10",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.flag} {self.name}"
