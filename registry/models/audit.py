"""Audit events: the exact bytes that were hashed, with columns projected from them for reading."""

from django.db import models

from registry.models.fields import DigestField


class AuditEvent(models.Model):
    """One link of the log. Never edited, never deleted: registry/guards/audit_event.sql."""

    # Assigned under a lock by audit.append_events(), without gaps, with `occurred_at`, which never falls.
    seq = models.BigIntegerField(primary_key=True)
    event_id = models.UUIDField(unique=True)
    body = models.BinaryField()
    digest = DigestField()
    previous_digest = DigestField()
    # Projected from the body.
    occurred_at = models.DateTimeField()
    action = models.CharField(max_length=50)
    actor_type = models.CharField(max_length=20)
    actor_name = models.CharField(max_length=150)
    object_type = models.CharField(max_length=50)
    object_id = models.CharField(max_length=100)
    object_name = models.CharField(max_length=300)
    object_version = models.PositiveBigIntegerField()
    tenant = models.CharField(max_length=100, blank=True, default="")
    environment = models.CharField(max_length=50, blank=True, default="")
    base_model_fingerprint = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        ordering = ["seq"]
        # Whatever the log is filtered by is read newest first, so each of these ends with the number.
        indexes = [
            models.Index(fields=["action", "seq"], name="audit_by_action"),
            models.Index(fields=["actor_name", "seq"], name="audit_by_actor"),
            models.Index(fields=["object_type", "seq"], name="audit_by_type_of_object"),
            models.Index(fields=["object_id", "seq"], name="audit_by_id_of_object"),
            models.Index(fields=["object_name", "seq"], name="audit_by_name_of_object"),
            models.Index(fields=["tenant", "seq"], name="audit_by_tenant"),
            models.Index(fields=["environment", "seq"], name="audit_by_environment"),
            models.Index(fields=["occurred_at", "seq"], name="audit_by_time"),
        ]
        constraints = [
            # Not unique=True, which for text makes a second index, for LIKE. The log has a million rows, and every change adds to it.
            models.UniqueConstraint(fields=["digest"], name="audit_digest_is_unique"),
            models.UniqueConstraint(fields=["previous_digest"], name="audit_previous_digest_is_unique"),
            models.UniqueConstraint(fields=["object_type", "object_id", "object_version"], name="audit_object_version_is_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.action}"
