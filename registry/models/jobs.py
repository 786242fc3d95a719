"""Jobs: units of worker time. The row is the truth; a message only says where to look."""

from math import ceil
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from registry.models.fields import DigestField


class JobKind(models.TextChoices):
    EXTRACTION = "extraction"
    VALIDATION = "validation"
    COMPOSITION = "composition"
    PROBE = "probe"


class JobState(models.TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


def _has_the_inputs_of_its_kind() -> Q:
    """Exactly one input beside the base model and the suites, and with the draft of a composition the digest of its components."""
    inputs = {
        JobKind.EXTRACTION: "contrast_set",
        JobKind.VALIDATION: "vector",
        JobKind.COMPOSITION: "revision",
        JobKind.PROBE: "prompt_set",
    }
    known = Q()
    for kind, own in inputs.items():
        others = {f"{name}__isnull": name != own for name in inputs.values()}
        digest = Q(components_digest="") if kind != JobKind.COMPOSITION else ~Q(components_digest="")
        known |= Q(kind=kind, **others) & digest
    return known


class Job(models.Model):
    """A recipe to run once, however many attempts that takes (three at most)."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    kind = models.CharField(max_length=11, choices=JobKind)
    state = models.CharField(max_length=9, choices=JobState, default=JobState.QUEUED)
    # What to do, as accepted: method, site, read position, α grid and unit, components, gates, sizes.
    recipe = models.JSONField()
    base_model = models.ForeignKey("registry.BaseModel", models.PROTECT, related_name="jobs")
    contrast_set = models.ForeignKey("registry.ContrastSet", models.PROTECT, null=True, related_name="jobs")
    # What a probe learns from.
    prompt_set = models.ForeignKey("registry.PromptSet", models.PROTECT, null=True, related_name="jobs")
    suites = models.ManyToManyField("registry.EvalSuite", related_name="jobs")
    # The candidate of a validation.
    vector = models.ForeignKey("registry.SteeringVector", models.PROTECT, null=True, related_name="validations")
    # The draft whose components a composition judges together. It may be edited meanwhile; the digest names what it was asked of.
    revision = models.ForeignKey("registry.ProfileRevision", models.PROTECT, null=True, related_name="composition_jobs")
    components_digest = DigestField(blank=True, default="", db_default="")
    # The profile that this job and those that follow from it end as a draft revision of.
    draft_for = models.ForeignKey("registry.Profile", models.PROTECT, null=True, related_name="jobs")
    # The job whose completion queued this one; one to one, so that a second delivery cannot queue another.
    follows = models.OneToOneField("self", models.PROTECT, null=True, related_name="followed_by")

    attempt = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=3)
    lease_owner = models.CharField(max_length=200, blank=True, default="")
    lease_expires_at = models.DateTimeField(null=True)
    dispatched_at = models.DateTimeField(db_default=Now())
    cancel_requested_at = models.DateTimeField(null=True)

    stage = models.CharField(max_length=50, blank=True, default="")
    progress_done = models.PositiveIntegerField(default=0)
    progress_total = models.PositiveIntegerField(default=0)
    note = models.CharField(max_length=300, blank=True, default="")
    # What whoever waits for it had better know: a code and a sentence each.
    notices = models.JSONField(default=list, db_default=[])
    # When the attempt will have done all that it foresees, by how long its own steps took; nothing until each kind of them has a rate.
    expected_at = models.DateTimeField(null=True)
    tokens_per_second = models.FloatField(null=True)

    # What the last attempt took of its machine: where its model was and in which dtype, and the most bytes at a time.
    device = models.CharField(max_length=200, blank=True, default="")
    peak_memory_bytes = models.PositiveBigIntegerField(null=True)

    result_digest = DigestField(blank=True, default="")
    # What a search measured in which no cell passes, and its picture; one that found a cell leaves them with its vector.
    sweep_digest = DigestField(blank=True, default="", db_default="")
    heatmap_digest = DigestField(blank=True, default="", db_default="")
    error_code = models.CharField(max_length=50, blank=True, default="")
    error_message = models.TextField(blank=True, default="")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="jobs")
    requested_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-requested_at"]
        indexes = [
            models.Index(fields=["state", "lease_expires_at"], name="job_by_state_and_lease"),
            # Lists are newest first, and by id among the jobs of one moment.
            models.Index(fields=["-requested_at", "id"], name="job_newest"),
            models.Index(fields=["kind", "-requested_at", "id"], name="job_newest_of_kind"),
            models.Index(fields=["state", "-requested_at", "id"], name="job_newest_in_state"),
            models.Index(fields=["requested_by", "-requested_at", "id"], name="job_newest_of_person"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=JobState.values), name="job_state_is_known"),
            models.CheckConstraint(condition=_has_the_inputs_of_its_kind(), name="job_has_the_inputs_of_its_kind"),
            # Two drafts may hold the same components, and two requests may come at once; the test split is opened for one.
            models.UniqueConstraint(
                fields=["components_digest"],
                condition=~Q(components_digest="") & Q(state__in=[JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED]),
                name="job_opens_the_test_split_once_per_composition",
            ),
            models.CheckConstraint(
                condition=Q(state=JobState.RUNNING, lease_expires_at__isnull=False)
                | (~Q(state=JobState.RUNNING) & Q(lease_expires_at__isnull=True)),
                name="job_has_a_lease_exactly_when_running",
            ),
            models.CheckConstraint(
                condition=(Q(state=JobState.SUCCEEDED) & ~Q(result_digest="")) | (~Q(state=JobState.SUCCEEDED) & Q(result_digest="")),
                name="job_has_a_result_exactly_when_succeeded",
            ),
            models.CheckConstraint(
                condition=(Q(state=JobState.FAILED) & ~Q(error_code="")) | (~Q(state=JobState.FAILED) & Q(error_code="")),
                name="job_has_an_error_exactly_when_failed",
            ),
            models.CheckConstraint(
                condition=Q(sweep_digest="", heatmap_digest="") | (Q(kind=JobKind.EXTRACTION, state=JobState.FAILED) & ~Q(sweep_digest="")),
                name="job_keeps_its_search_only_when_it_failed",
            ),
            models.CheckConstraint(
                condition=Q(follows__isnull=True) | Q(kind=JobKind.VALIDATION, draft_for__isnull=False),
                name="job_follows_another_only_on_its_way_to_a_draft",
            ),
            models.CheckConstraint(
                condition=Q(draft_for__isnull=True) | Q(kind__in=[JobKind.EXTRACTION, JobKind.VALIDATION]),
                name="job_drafts_only_on_its_way_to_a_profile",
            ),
            models.CheckConstraint(condition=Q(attempt__lte=models.F("max_attempts")), name="job_attempts_are_bounded"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {str(self.id)[:8]}"

    @property
    def is_finished(self) -> bool:
        return self.state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)

    @property
    def is_left_alone(self) -> bool:
        """Whether the attempt under way was given up, or its worker fell silent, and no other has begun."""
        return self.state == JobState.RUNNING and self.lease_expires_at is not None and self.lease_expires_at < timezone.now()

    @property
    def is_late(self) -> bool:
        """Whether somebody still works on it after the time at which it was expected to end."""
        return self.state == JobState.RUNNING and self.expected_at is not None and self.expected_at <= timezone.now()

    @property
    def seconds_left(self) -> int | None:
        """None while there is no estimate: nothing was measured yet, nobody works on it, or what was expected did not come."""
        now = timezone.now()
        if self.state != JobState.RUNNING or self.is_left_alone:
            return None
        return ceil((self.expected_at - now).total_seconds()) if self.expected_at is not None and self.expected_at > now else None


class JobStep(models.Model):
    """A finished piece of an unfinished job, so that the next attempt goes on where the last one stopped. Gone when the job ends."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="steps")
    # All that the job's results depend on beside its steps: recipe, inputs, model, code, libraries, dtype, device.
    conditions = DigestField()
    # What was asked of the engine under these conditions, and which of its batches this is.
    call = DigestField()
    batch = models.PositiveIntegerField()
    data = models.BinaryField()
    # By the hub's secret, over whose piece it is and its bytes.
    seal = DigestField()
    # What it took, so that whoever goes on knows the rates.
    stage = models.CharField(max_length=50)
    name = models.CharField(max_length=50)
    count = models.PositiveIntegerField()
    tokens = models.PositiveBigIntegerField()
    seconds = models.FloatField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "conditions", "call", "batch"], name="job_step_is_kept_once"),
        ]

    def __str__(self) -> str:
        return f"{self.stage} {self.call[:8]} {self.batch} of {self.job_id}"
