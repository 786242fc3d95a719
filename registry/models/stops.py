"""Stop statements: the signed documents that carry every kill in force to the nodes. Inserted, never changed."""

import zlib

from django.db import models
from django.db.models import Q

from registry.models.fields import DigestField


class StopStatement(models.Model):
    """One statement of the hub, exactly as it was signed and served. Never changed: registry/guards/stop.sql."""

    # Rises over all statements, and is never less than the milliseconds since 1970: see `snapshots.stops`.
    sequence = models.PositiveBigIntegerField(unique=True)
    issued_at = models.DateTimeField()
    # The exact bytes that were signed, deflated.
    payload_zlib = models.BinaryField()
    # As in the envelope.
    signatures = models.JSONField()
    # Of the payload: the name that nodes know it by.
    digest = DigestField(unique=True)

    class Meta:
        ordering = ["-sequence"]
        constraints = [models.CheckConstraint(condition=Q(sequence__gte=1), name="stop_sequence_starts_at_one")]

    def __str__(self) -> str:
        return f"stop {self.sequence}"

    @property
    def payload(self) -> bytes:
        return zlib.decompress(self.payload_zlib)
