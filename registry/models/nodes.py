"""Serving nodes and what they report."""

from uuid import uuid4

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from registry.models.fields import DigestField


class ReportResult(models.TextChoices):
    ACK = "ACK"
    NACK = "NACK"
    STALE = "STALE"
    PENDING = "PENDING"


class ServingNode(models.Model):
    """A process that pulls the snapshots of one environment. Its token is kept as a hash only."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.SlugField(max_length=100, unique=True)
    environment = models.ForeignKey("registry.Environment", models.PROTECT, related_name="nodes")
    token_prefix = models.CharField(max_length=12)
    token_sha256 = models.CharField(max_length=64, unique=True)
    is_active = models.BooleanField(default=True)
    enrolled_at = models.DateTimeField(db_default=Now())
    # The node's last word, repeated here for lists. Whether it is in step is computed when read.
    last_seen_at = models.DateTimeField(null=True)
    last_result = models.CharField(max_length=7, choices=ReportResult, blank=True, default="")
    last_code = models.CharField(max_length=50, blank=True, default="")
    applied_revision = models.PositiveBigIntegerField(null=True)
    engine = models.CharField(max_length=100, blank=True, default="")
    fingerprint = DigestField(blank=True, default="")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class NodeReport(models.Model):
    """What a node said when its state changed: one row for each change, not for each heartbeat."""

    node = models.ForeignKey(ServingNode, models.PROTECT, related_name="reports")
    result = models.CharField(max_length=7, choices=ReportResult)
    code = models.CharField(max_length=50, blank=True, default="")
    message = models.TextField(blank=True, default="")
    revision = models.PositiveBigIntegerField(null=True)
    slots = models.JSONField(default=list)
    counters = models.JSONField(default=dict)
    received_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-received_at"]
        constraints = [
            models.CheckConstraint(condition=Q(result__in=ReportResult.values), name="node_report_result_is_known"),
            models.CheckConstraint(
                condition=(Q(result=ReportResult.NACK) & ~Q(code="")) | ~Q(result=ReportResult.NACK), name="node_report_nack_has_a_code"
            ),
        ]
