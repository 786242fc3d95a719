"""Risk policies: what each risk class demands before one of its profiles may steer, and the limits it steers within."""

from decimal import Decimal
from uuid import uuid4

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from registry.models.covers import CoverableForms
from registry.models.evals import SuiteKind
from registry.models.fields import CoefficientField
from registry.models.vectors import Unit
from steernode.words import ALPHA_CAPS


class RiskPolicy(models.Model):
    """One risk class. Limits hold at once for all that steers; demands are copied into a revision when it is submitted."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    # The risk class: `low`, `medium` and `high` are there from the start.
    name = models.SlugField(max_length=50, unique=True)
    # Limits: the largest |α| per unit, and the summed length of what is added at one layer over the mean residual norm there.
    alpha_cap_absolute = CoefficientField()
    alpha_cap_mean_difference = CoefficientField()
    alpha_cap_residual = CoefficientField()
    composition_budget = CoefficientField()
    # Demands on the evidence.
    suite_kinds = ArrayField(models.CharField(max_length=10))
    # One that ships by its name, or NAME@VERSION of the organisation's own, which never changes.
    gate_set = models.CharField(max_length=111)
    minimum_pairs = models.PositiveIntegerField()
    refuses_claimed_lineage = models.BooleanField(default=False, db_default=False)
    # Demand on what else an approval covers: forms of the base model, on which nothing was measured.
    coverable_forms = models.CharField(
        max_length=5, choices=CoverableForms, default=CoverableForms.CLOSE, db_default=CoverableForms.CLOSE.value
    )
    locales = ArrayField(models.CharField(max_length=35), blank=True, default=list)
    evidence_max_age_days = models.PositiveIntegerField()
    # Demands on the decision. A role is a group; each must be held by one of those who approve.
    approvals_needed = models.PositiveSmallIntegerField()
    reviewer_roles = ArrayField(models.CharField(max_length=150))
    approval_valid_days = models.PositiveIntegerField()
    review_after_days = models.PositiveIntegerField()
    reason = models.TextField(max_length=2000)
    # Null for the classes that came with the registry.
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    changed_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "risk policies"
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    alpha_cap_absolute__gte=0,
                    alpha_cap_absolute__lte=ALPHA_CAPS[Unit.ABSOLUTE],
                    alpha_cap_mean_difference__gte=0,
                    alpha_cap_mean_difference__lte=ALPHA_CAPS[Unit.MEAN_DIFFERENCE],
                    alpha_cap_residual__gte=0,
                    alpha_cap_residual__lte=ALPHA_CAPS[Unit.RESIDUAL],
                ),
                name="policy_caps_stay_inside_the_outermost_ones",
            ),
            models.CheckConstraint(condition=Q(composition_budget__gte=0, composition_budget__lte=10), name="policy_budget_is_a_share"),
            models.CheckConstraint(condition=Q(suite_kinds__contained_by=SuiteKind.values), name="policy_suite_kinds_are_known"),
            models.CheckConstraint(condition=~Q(gate_set=""), name="policy_names_a_gate_set"),
            models.CheckConstraint(condition=Q(coverable_forms__in=CoverableForms.values), name="policy_coverable_forms_are_known"),
            models.CheckConstraint(condition=Q(minimum_pairs__gte=2), name="policy_wants_two_pairs"),
            models.CheckConstraint(condition=Q(approvals_needed__gte=1), name="policy_needs_an_approval"),
            models.CheckConstraint(condition=Q(reviewer_roles__len__gte=1), name="policy_names_a_reviewer_role"),
            models.CheckConstraint(
                condition=Q(evidence_max_age_days__gte=1, approval_valid_days__gte=1, review_after_days__gte=1),
                name="policy_periods_are_at_least_a_day",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def alpha_caps(self) -> dict[str, Decimal]:
        """The largest |α| by unit."""
        return {str(unit): getattr(self, f"alpha_cap_{unit}") for unit in Unit.values}
