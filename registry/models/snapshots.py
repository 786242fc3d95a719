"""Snapshots: the signed documents that nodes pull. Inserted, never changed."""

import zlib

from django.db import models
from django.db.models import Q

from registry.models.fields import DigestField


class Snapshot(models.Model):
    """One revision of one environment, exactly as it was signed and served. Never changed: registry/guards/snapshot.sql."""

    environment = models.ForeignKey("registry.Environment", models.PROTECT, related_name="snapshots")
    revision = models.PositiveBigIntegerField()
    # Of everything but revision and times: the same content again has the same digest.
    content_digest = DigestField()
    # The revision that this one undoes, when its content equals that of an earlier one.
    rollback_of = models.PositiveBigIntegerField(null=True)
    # The exact bytes that were signed, deflated: thousands of flags say much the same.
    payload_zlib = models.BinaryField()
    # As in the envelope.
    signatures = models.JSONField()
    etag = models.CharField(max_length=100)
    # The audit action that made it.
    cause = models.CharField(max_length=50)
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        ordering = ["environment", "-revision"]
        # Whether the same was said before is asked at every publishing.
        indexes = [models.Index(fields=["environment", "content_digest"], name="snapshot_by_content")]
        constraints = [
            models.UniqueConstraint(fields=["environment", "revision"], name="snapshot_revision_is_unique"),
            models.CheckConstraint(condition=Q(revision__gte=1), name="snapshot_revision_starts_at_one"),
            models.CheckConstraint(
                condition=Q(rollback_of__isnull=True) | Q(rollback_of__lt=models.F("revision")), name="snapshot_undoes_an_earlier_revision"
            ),
            models.CheckConstraint(condition=Q(expires_at__gt=models.F("issued_at")), name="snapshot_expires_after_it_is_issued"),
        ]

    def __str__(self) -> str:
        return f"{self.environment.name} r{self.revision}"

    @property
    def payload(self) -> bytes:
        return zlib.decompress(self.payload_zlib)
