"""Users, their roles and their API tokens."""

import secrets
from datetime import timedelta
from hashlib import sha256

from django.contrib.auth.models import Group
from django.utils import timezone

from registry.audit import Action, Actor, record
from registry.errors import InvalidInput, TransitionRefused
from registry.models import ApiToken, Role, User
from registry.transitions import transition

TOKEN_PREFIX = "sht_"  # noqa: S105  (a public marker, so that secret scanners can find leaked tokens)


@transition
def create_user(
    username: str, *, roles: list[str], actor: Actor, password: str | None = None, email: str = "", acts_for: User | None = None
) -> User:
    """Create a person, or with `acts_for` a service account that counts as that person."""
    unknown = sorted(set(roles) - set(Role.values))
    if unknown:
        raise InvalidInput("ROLE_UNKNOWN", f"no role {unknown[0]!r}; roles are {', '.join(Role.values)}", unknown[0])
    if User.objects.filter(username=username).exists():
        raise TransitionRefused("USER_EXISTS", f"a user {username!r} exists already", username)
    # Accounts of accounts would hide which person is behind both, and two of them would pass for two people.
    if acts_for is not None and acts_for.acts_for_id is not None:
        raise InvalidInput("ACTS_FOR", f"{acts_for} is a service account itself; name the person", acts_for.username)
    user = User.objects.create_user(username, email, password, acts_for=acts_for, is_staff=acts_for is None)
    user.groups.set(Group.objects.filter(name__in=roles))
    record(Action.USER_CREATED, actor=actor, subject=user, details={"roles": sorted(roles)})
    return user


@transition
def issue_token(user: User, *, name: str, actor: Actor, days: int = 90) -> tuple[ApiToken, str]:
    """A new API token and its secret, which is shown this once."""
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user=user, name=name, prefix=secret[:12], secret_sha256=hash_secret(secret), expires_at=timezone.now() + timedelta(days=days)
    )
    record(Action.TOKEN_ISSUED, actor=actor, subject=user, details={"token": token.prefix, "name": name, "days": days})
    return token, secret


@transition
def revoke_token(token: ApiToken, *, actor: Actor) -> None:
    """The token stops working with the next request."""
    if ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=timezone.now()):
        record(Action.TOKEN_REVOKED, actor=actor, subject=token.user, details={"token": token.prefix})


def hash_secret(secret: str) -> str:
    """Secrets have 256 random bits, so a plain sha256 cannot be searched."""
    return sha256(secret.encode()).hexdigest()


def stands_for(user: User) -> int:
    """The person who answers for a user: a service account counts as its owner."""
    return user.acts_for_id or user.pk
