"""Openings: whenever the test items of a suite were looked at, for which axis, on which base model, and by which gates."""

from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from registry.models.fields import DigestField


class SuiteOpening(models.Model):
    """One look at the test split of one version of a suite. Written when the job is asked for, before any test reply; never edited.

    A trigger sees to it that the same items judge one axis on one base model once (registry/guards/opening.sql). What a job leaves that
    failed or was cancelled nobody can read, so that its opening stops no other.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    # Of the behaviour suite: what the items were to tell of. It is the vector's, where the record knows what that is about.
    axis = models.SlugField(max_length=50)
    base_model = models.ForeignKey("registry.BaseModel", models.PROTECT, related_name="+")
    suite = models.ForeignKey("registry.EvalSuite", models.PROTECT, related_name="openings")
    # Null where the components of a revision were judged together: once for exactly these, which evaluations say themselves.
    vector = models.ForeignKey("registry.SteeringVector", models.PROTECT, null=True, related_name="+")
    job = models.ForeignKey("registry.Job", models.PROTECT, related_name="openings")
    # Of the gates as canonical JSON: they were fixed before.
    gates_digest = DigestField()
    opened_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    opened_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["opened_at"]
        indexes = [models.Index(fields=["base_model", "axis"], name="opening_by_model_and_axis")]
        constraints = [models.UniqueConstraint(fields=["job", "suite"], name="opening_once_in_a_job")]

    def __str__(self) -> str:
        return f"test split of {self.suite}, opened for {self.axis} on {self.base_model.name}"
