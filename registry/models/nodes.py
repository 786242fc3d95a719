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
    """A process that pulls the snapshots of one environment. Its tokens are kept as hashes only, of its key pair the public half.

    It is invited with a one-time token, enrols with that and a key of its own, and is withdrawn in the end; the row stays for the record.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.SlugField(max_length=100, unique=True)
    environment = models.ForeignKey("registry.Environment", models.PROTECT, related_name="nodes")
    # What it pulls with, and the raw Ed25519 key, in base64, that its reports are signed with: neither before it has enrolled. They stay
    # when it is withdrawn: the one so that it can be told, the other so that what it signed can be checked.
    token_prefix = models.CharField(max_length=12, blank=True, default="")
    token_sha256 = models.CharField(max_length=64, blank=True, default="")
    public_key = models.CharField(max_length=44, blank=True, default="")
    # Of the tokens before, as hashes: a process that still has one is told that it was replaced, and steers nobody.
    past_tokens = models.JSONField(default=list)
    enrolled_at = models.DateTimeField(null=True)
    # The one-time token that it may enrol with, or enrol again.
    enrolment_sha256 = models.CharField(max_length=64, blank=True, default="")
    enrolment_expires_at = models.DateTimeField(null=True)
    is_active = models.BooleanField(default=True)
    withdrawn_at = models.DateTimeField(null=True)
    # The node's last word, repeated here for lists. Whether it is in step is computed when read.
    last_seen_at = models.DateTimeField(null=True)
    last_result = models.CharField(max_length=7, choices=ReportResult, blank=True, default="")
    last_code = models.CharField(max_length=50, blank=True, default="")
    # What is in force there, and whether the record has a snapshot of that revision with another content, or none.
    applied_revision = models.PositiveBigIntegerField(null=True)
    applied_digest = DigestField(blank=True, default="")
    is_mismatched = models.BooleanField(default=False)
    highest_revision = models.PositiveBigIntegerField(null=True)
    engine = models.CharField(max_length=100, blank=True, default="")
    capabilities = models.JSONField(default=list)
    fingerprint = DigestField(blank=True, default="")
    # The stop statement that it holds; `stop_surplus` are kills that it obeys and the newest statement does not list.
    stop_sequence = models.PositiveBigIntegerField(null=True)
    stop_digest = DigestField(blank=True, default="")
    stop_held = models.PositiveBigIntegerField(null=True)
    stop_surplus = models.JSONField(default=list)
    # Profiles of the applied snapshot that this node cannot serve; whoever is flagged to one of them is not steered here.
    unservable = models.JSONField(default=list)
    # How far its clock was ahead of the database's when its last report came; less than 0 where it was behind.
    clock_ahead_seconds = models.BigIntegerField(null=True)
    # Where its reports have come to, by which late and replayed ones are recognised.
    boot_id = models.CharField(max_length=100, blank=True, default="")
    last_seq = models.PositiveBigIntegerField(null=True)
    past_boots = models.JSONField(default=list)
    # Changes of state since this moment; past a limit they are counted and not kept.
    counted_since = models.DateTimeField(null=True)
    counted_changes = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(is_active=True, withdrawn_at=None) | Q(is_active=False, withdrawn_at__isnull=False),
                name="node_is_active_or_withdrawn",
            ),
            models.CheckConstraint(
                condition=Q(enrolment_sha256="", enrolment_expires_at=None)
                | (~Q(enrolment_sha256="") & Q(enrolment_expires_at__isnull=False)),
                name="node_enrolment_token_expires",
            ),
            models.UniqueConstraint(fields=["token_sha256"], condition=~Q(token_sha256=""), name="node_token_is_of_one_node"),
            models.UniqueConstraint(
                fields=["enrolment_sha256"], condition=~Q(enrolment_sha256=""), name="node_enrolment_token_is_of_one_node"
            ),
        ]

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
