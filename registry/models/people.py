"""People and what they may do: users, roles, the tenants they are limited to, API tokens."""

from functools import cached_property
from uuid import UUID, uuid4

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce, Now


class Role(models.TextChoices):
    """Roles are Django groups of the same name, made by the third migration.

    A serving node is no user: what its token may do is fixed (pull its environment, report as itself), see registry/fleet.
    """

    AUTHOR = "author"
    APPROVER = "approver"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMIN = "admin"


class User(AbstractUser):
    """A person, or a service account that acts for one. People leave by `is_active=False`; they are never deleted."""

    # Whom a service account acts for: it counts as that person wherever two different people are needed.
    acts_for = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="service_accounts")
    # The person behind the account, for the database to compare: what a decision copies of it is held to this by a foreign key.
    person = models.GeneratedField(expression=Coalesce("acts_for", "id"), output_field=models.BigIntegerField(), db_persist=True)
    # Two columns, because an empty list must mean no tenant at all: taking the last one away opens nothing.
    is_limited_to_tenants = models.BooleanField(default=False)
    tenants = models.ManyToManyField("registry.Tenant", blank=True, related_name="+")

    class Meta(AbstractUser.Meta):  # type: ignore[name-defined, misc]  # the stubs leave it out
        constraints = [models.UniqueConstraint(fields=["id", "person"], name="user_stands_for_one_person")]

    # Set by whoever authenticates a request: the API token that it came with. It narrows everything below.
    token: "ApiToken | None" = None

    def held_roles(self) -> frozenset[str]:
        """The roles of the user, or those of them that the token of this request may use."""
        if not self.is_active:
            return frozenset()
        held = frozenset(self.groups.values_list("name", flat=True)) & frozenset(Role.values)
        return held if self.token is None or self.token.scopes is None else held & frozenset(self.token.scopes)

    def has_role(self, *roles: str) -> bool:
        """Whether the user holds one of these. An admin administers people; it is no approver unless made one."""
        return not self.held_roles().isdisjoint(roles)

    @cached_property
    def visible_tenants(self) -> frozenset[UUID] | None:
        """The ids of the tenants that this user is limited to; None for no limit. registry/reads/visibility.py applies it.

        A service account sees no more than the person it acts for, and a token no more than its user.
        """
        limits = [limit for limit in (self._own_tenants(), self.acts_for.visible_tenants if self.acts_for else None) if limit is not None]
        if self.token is not None and self.token.tenant_id is not None:
            limits.append(frozenset([self.token.tenant_id]))
        return frozenset.intersection(*limits) if limits else None

    def _own_tenants(self) -> frozenset[UUID] | None:
        return frozenset(self.tenants.values_list("pk", flat=True)) if self.is_limited_to_tenants else None


# What a token may be limited to: some of its user's roles, or reading, which every token may do and which takes no role.
READ_ONLY = "read"
SCOPES = (READ_ONLY, *Role.values)


class ApiToken(models.Model):
    """A user's key to the REST API. Only its hash is kept; the secret is shown once (its form: steernode/hub/tokens.py)."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    user = models.ForeignKey(User, models.PROTECT, related_name="api_tokens")
    name = models.CharField(max_length=100)
    # The first characters of the secret, so that people can tell tokens apart in lists and logs.
    prefix = models.CharField(max_length=12)
    secret_sha256 = models.CharField(max_length=64, unique=True)
    # NULL: whatever its user may do, now and later.
    scopes = ArrayField(models.CharField(max_length=10), null=True, blank=True)
    # NULL: every tenant that its user sees.
    tenant = models.ForeignKey("registry.Tenant", models.PROTECT, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    # Written at most once a minute.
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(scopes__isnull=True) | Q(scopes__len__gt=0, scopes__contained_by=list(SCOPES)), name="token_scopes_are_known"
            )
        ]

    def __str__(self) -> str:
        return self.prefix


class IdempotentAnswer(models.Model):
    """What a request with an Idempotency-Key was answered, so that sending it again does nothing twice. Swept after a day."""

    actor = models.ForeignKey(User, models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    # Of the credential, method, address and body: the key names one request and no other.
    request_sha256 = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField()
    headers = models.JSONField(default=dict)
    # NULL when the answer held a secret: secrets are not kept, not even for a repeat.
    body = models.BinaryField(null=True)
    answered_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["actor", "key"], name="idempotency_key_is_used_once_by_an_actor")]
