"""The hub's signing keys, by their public halves, and the trust documents that nodes were told of them by."""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now


class KeyPurpose(models.TextChoices):
    SNAPSHOT = "snapshot"
    STOP = "stop"


class SigningKey(models.Model):
    """A key that signs for one purpose, and from when to when that counts. The private half is in the settings, never here."""

    keyid = models.CharField(max_length=16, unique=True)
    # The raw Ed25519 key in base64.
    public_key = models.CharField(max_length=44)
    purpose = models.CharField(max_length=8, choices=KeyPurpose)
    not_before = models.DateTimeField()
    not_after = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["not_before", "keyid"]
        constraints = [
            models.CheckConstraint(condition=Q(purpose__in=KeyPurpose.values), name="signing_key_purpose_is_known"),
            models.CheckConstraint(condition=Q(not_before__lt=F("not_after")), name="signing_key_ends_after_it_begins"),
        ]

    def __str__(self) -> str:
        return self.keyid


class TrustDocument(models.Model):
    """One version of what nodes are told to trust. Versions only rise, and a node takes none below the one it holds."""

    version = models.PositiveBigIntegerField(primary_key=True)
    # Of its keys, whatever the version: the same keys are the same document.
    digest = models.CharField(max_length=64)
    keys = models.JSONField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-version"]

    def __str__(self) -> str:
        return str(self.version)
