"""People and what they may do: users, roles, API tokens."""

from uuid import uuid4

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Now


class Role(models.TextChoices):
    """Roles are Django groups of the same name, made by the first migration."""

    AUTHOR = "author"
    APPROVER = "approver"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMIN = "admin"


class User(AbstractUser):
    """A person, or a service account that acts for one. People leave by `is_active=False`; they are never deleted."""

    # Whom a service account acts for: it counts as that person wherever two different people are needed.
    acts_for = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="service_accounts")

    def has_role(self, *roles: str) -> bool:
        """Whether the user is in one of these groups. An admin administers people; it is no approver unless made one."""
        return self.is_active and self.groups.filter(name__in=roles).exists()


class ApiToken(models.Model):
    """A person's key to the REST API. Only its hash is kept; the secret is shown once."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    user = models.ForeignKey(User, models.PROTECT, related_name="api_tokens")
    name = models.CharField(max_length=100)
    # The first characters of the secret, so that people can tell tokens apart in lists and logs.
    prefix = models.CharField(max_length=12)
    secret_sha256 = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
