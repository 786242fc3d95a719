"""Profiles: a named intent, its numbered revisions, and the components each is made of."""

from decimal import Decimal
from functools import partial
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from registry.models.fields import CoefficientField, DigestField, spelled
from registry.models.purposes import Purpose
from registry.models.vectors import Unit
from steernode import words
from steernode.snapshot.records import AlphaBounds


@spelled(words.OPERATORS)
class Operator(models.TextChoices):
    """What is done with a direction. A capability that a node lacks is refused by name."""

    ADD = "add"
    ABLATE = "ablate"
    CLAMP = "clamp"


@spelled(words.SCOPES)
class TokenScope(models.TextChoices):
    GENERATED = "generated"
    ASSISTANT = "assistant"
    PROMPT = "prompt"
    ALL = "all"


# Not a function of this module: a migration can name `dict`, and must not name what may move.
constant_schedule: partial[dict[str, str]] = partial(dict, kind="constant")


@spelled(words.STALE_POLICIES)
class StalePolicy(models.TextChoices):
    """What a node does once it has not reached the hub for `max_staleness_seconds`."""

    KEEP = "keep"
    ZERO = "zero"


class RevisionState(models.TextChoices):
    DRAFT = "draft"
    SUBMITTED = "submitted"
    APPROVED = "approved"
    REJECTED = "rejected"
    RETIRED = "retired"
    INVALIDATED = "invalidated"


class Profile(models.Model):
    """A named intent, such as "warm billing replies". What it does is in its revisions."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.SlugField(max_length=100, unique=True)
    intent = models.TextField()
    axis = models.SlugField(max_length=50)
    purpose = models.CharField(max_length=10, choices=Purpose)
    # The risk policy of that name.
    risk_class = models.ForeignKey("registry.RiskPolicy", models.PROTECT, to_field="name", db_column="risk_class", related_name="profiles")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name"]
        indexes = [
            models.Index(fields=["axis", "name"], name="profile_by_axis"),
            models.Index(fields=["purpose", "name"], name="profile_by_purpose"),
            models.Index(fields=["risk_class", "name"], name="profile_by_risk_class"),
        ]
        constraints = [models.CheckConstraint(condition=Q(purpose__in=Purpose.values), name="profile_purpose_is_known")]

    def __str__(self) -> str:
        return self.name


class ProfileRevision(models.Model):
    """One numbered revision. Its digest covers everything it does and is fixed from submission on.

    Its states and what fixes them are guarded by registry/guards/revision.sql.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    profile = models.ForeignKey(Profile, models.PROTECT, related_name="revisions")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=11, choices=RevisionState, default=RevisionState.DRAFT)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    base_model = models.ForeignKey("registry.BaseModel", models.PROTECT, related_name="revisions")
    evaluation = models.ForeignKey("registry.Evaluation", models.PROTECT, null=True, related_name="revisions")
    # The validation that drafted it; null for a draft by hand. One to one, so that a second delivery cannot draft another.
    drafted_by = models.OneToOneField("registry.Job", models.PROTECT, null=True, related_name="drafted_revision")
    stale_policy = models.CharField(max_length=4, choices=StalePolicy, default=StalePolicy.ZERO)
    max_staleness_seconds = models.PositiveIntegerField(default=900)
    # How often it was submitted: each time is another state, so that what was said of an earlier one no longer counts.
    submission = models.PositiveSmallIntegerField(default=0, db_default=0)
    # What the risk policy demanded when it was submitted (documents.policy_document); empty in a draft.
    demands = models.JSONField(default=dict, db_default={})
    # By which waivers gates on which nothing could be concluded did not stop it (documents.waiver_document); empty in a draft.
    waivers = models.JSONField(default=list, db_default=[])
    # Conditions any of which forces neutral.
    safety_override = models.JSONField(default=list, db_default=[])
    # The probes that its conditions name, each with the digest of the document that holds its ROC (services.components).
    probes = models.JSONField(default=list, db_default=[])
    rationale = models.TextField(blank=True, default="")
    # How far it can go (demands.measure_peaks), fixed at submission: so a policy's limits are comparisons of columns.
    peak_absolute = CoefficientField(default=Decimal(0), db_default=Decimal(0))
    peak_mean_difference = CoefficientField(default=Decimal(0), db_default=Decimal(0))
    peak_residual = CoefficientField(default=Decimal(0), db_default=Decimal(0))
    peak_share = CoefficientField(default=Decimal(0), db_default=Decimal(0))
    digest = DigestField(blank=True, default="")
    created_at = models.DateTimeField(db_default=Now())
    submitted_at = models.DateTimeField(null=True)
    decided_at = models.DateTimeField(null=True)
    # When an approved revision must have been looked at again; after that it steers no more.
    review_due_at = models.DateTimeField(null=True)
    # What took the ground from under it: another base model, an overdue review, a stricter policy.
    invalidated_reason = models.CharField(max_length=500, blank=True, default="", db_default="")

    class Meta:
        ordering = ["profile", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["profile", "number"], name="revision_number_is_unique"),
            # What a decision copies of it is held to this by a foreign key.
            models.UniqueConstraint(fields=["id", "author"], name="revision_has_one_author"),
            models.CheckConstraint(condition=Q(state__in=RevisionState.values), name="revision_state_is_known"),
            models.CheckConstraint(condition=Q(stale_policy__in=StalePolicy.values), name="revision_stale_policy_is_known"),
            models.CheckConstraint(
                condition=Q(state=RevisionState.DRAFT, digest="")
                | (~Q(state=RevisionState.DRAFT) & ~Q(digest="") & Q(evaluation__isnull=False)),
                name="revision_has_digest_and_evidence_exactly_when_not_draft",
            ),
            models.CheckConstraint(
                condition=Q(state=RevisionState.DRAFT, demands={})
                | (~Q(state=RevisionState.DRAFT) & Q(demands__has_keys=["approvals_needed", "reviewer_roles", "approval_valid_days"])),
                name="revision_keeps_what_was_demanded_exactly_when_not_draft",
            ),
            models.CheckConstraint(
                condition=~Q(state=RevisionState.APPROVED)
                | Q(decided_at__isnull=False, review_due_at__isnull=False, review_due_at__gt=F("decided_at")),
                name="revision_has_a_review_date_once_approved",
            ),
            models.CheckConstraint(
                condition=(Q(state=RevisionState.INVALIDATED) & ~Q(invalidated_reason=""))
                | (~Q(state=RevisionState.INVALIDATED) & Q(invalidated_reason="")),
                name="revision_has_a_reason_exactly_when_invalidated",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.profile.name} r{self.number}"

    @property
    def approvals_needed(self) -> int:
        """What was demanded when it was submitted; of a draft, what is demanded now."""
        return self.demands.get("approvals_needed") or self.profile.risk_class.approvals_needed

    def reopen(self) -> None:
        """Be a draft again, unsaved: what was said of the earlier state is of no digest that it has now."""
        self.state, self.digest, self.evaluation, self.demands = RevisionState.DRAFT, "", None, {}
        self.submitted_at, self.waivers = None, []
        self.peak_absolute = self.peak_mean_difference = self.peak_residual = self.peak_share = Decimal(0)


def has_a_known_schedule() -> Q:
    """A schedule has the parameters of its kind, which a missing key would make unknown rather than false.

    In PostgreSQL's order of JSON values only a number lies between two numbers.
    """
    known = Q()
    for kind, parameters in words.SCHEDULE_PARAMETERS.items():
        inside = {f"schedule__{name}__gte": words.SCHEDULE_LEAST[name] for name in parameters}
        inside |= {f"schedule__{name}__lte": words.LONGEST_SCHEDULE for name in parameters}
        known |= Q(schedule__kind=kind, schedule__has_keys=["kind", *parameters], **inside)
    return known


class Component(models.Model):
    """vector × operator × α (and its allowed range) × scope × schedule × condition.

    Changed only in a draft: registry/guards/component.sql.
    """

    revision = models.ForeignKey(ProfileRevision, models.PROTECT, related_name="components")
    position = models.PositiveSmallIntegerField()
    vector = models.ForeignKey("registry.SteeringVector", models.PROTECT, related_name="components")
    operator = models.CharField(max_length=10, choices=Operator, default=Operator.ADD)
    alpha = CoefficientField()
    alpha_min = CoefficientField(default=Decimal(0))
    alpha_max = CoefficientField()
    unit = models.CharField(max_length=15, choices=Unit)
    scope = models.CharField(max_length=10, choices=TokenScope, default=TokenScope.GENERATED)
    # How far clamp lets the projection go, in `unit`; its sign says which side is capped.
    bound = CoefficientField(null=True)
    preserve_norm = models.BooleanField(default=False, db_default=False)
    # As nodes read them (steernode.snapshot.readers): a kind and its parameters. Null fires for every request.
    schedule = models.JSONField(default=constant_schedule, db_default=constant_schedule())
    condition = models.JSONField(null=True)

    class Meta:
        ordering = ["revision", "position"]
        constraints = [
            models.UniqueConstraint(fields=["revision", "position"], name="component_position_is_unique"),
            models.CheckConstraint(condition=Q(operator__in=Operator.values), name="component_operator_is_known"),
            models.CheckConstraint(condition=Q(scope__in=TokenScope.values), name="component_scope_is_known"),
            models.CheckConstraint(condition=Q(unit__in=Unit.values), name="component_unit_is_known"),
            models.CheckConstraint(
                condition=Q(alpha__gte=F("alpha_min"), alpha__lte=F("alpha_max"), alpha_min__gte=-1000, alpha_max__lte=1000),
                name="component_alpha_is_inside_its_range",
            ),
            models.CheckConstraint(
                condition=~Q(operator__in=words.STRENGTH_OPERATORS) | Q(alpha_min__gte=0, alpha_max__lte=1),
                name="component_strength_is_between_0_and_1",
            ),
            models.CheckConstraint(
                condition=(Q(operator=Operator.CLAMP, bound__isnull=False) & ~Q(bound=0))
                | (~Q(operator=Operator.CLAMP) & Q(bound__isnull=True)),
                name="component_has_a_bound_exactly_when_clamp",
            ),
            models.CheckConstraint(condition=has_a_known_schedule(), name="component_schedule_has_its_parameters"),
            models.CheckConstraint(
                condition=Q(condition__isnull=True) | Q(condition__has_key="kind", condition__kind__in=words.CONDITION_KINDS),
                name="component_condition_is_known",
            ),
        ]

    @property
    def allowed(self) -> AlphaBounds:
        return AlphaBounds(self.alpha_min, self.alpha_max)
