"""Users, their roles, the tenants they are limited to, and their API tokens."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from django.contrib.auth.models import Group
from django.db.models import Q
from django.utils import timezone

from registry.audit import Action, Actor, record
from registry.errors import InvalidInput, TransitionRefused
from registry.models import READ_ONLY, SCOPES, ApiToken, Role, Tenant, User
from registry.services.transition import transition
from steernode.hub.tokens import PERSON, make_token

# How exact `last_used_at` is: a busy token costs one write a minute.
LAST_USED_EVERY = timedelta(minutes=1)
MAX_TOKEN_DAYS = 366


@transition
def create_user(
    username: str, *, roles: list[str], actor: Actor, password: str | None = None, email: str = "", acts_for: User | None = None
) -> User:
    """Create a person, or with `acts_for` a service account that counts as that person."""
    _check_roles(roles)
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
def admit_person(user: User, *, save: Callable[[], object]) -> User:
    """Somebody whom the single sign-on vouches for: no role and no tenant, so that being known is not being trusted."""
    user.is_staff, user.is_limited_to_tenants = True, True
    save()
    record(Action.USER_CREATED, actor="single sign-on", subject=user, details={"roles": []})
    return user


@transition
def set_roles(user: User, *, roles: Sequence[str], actor: Actor) -> None:
    """Give a user exactly these roles, and leave the rest. An event only where that changes something."""
    _check_roles(roles)
    user = User.objects.select_for_update(of=("self",), no_key=True).get(pk=user.pk)
    if set(user.groups.values_list("name", flat=True)) != set(roles):
        user.groups.set(Group.objects.filter(name__in=roles))
        record(Action.USER_ACCESS_CHANGED, actor=actor, subject=user, details={"roles": sorted(roles)})


@transition
def note_locked_login(name: str) -> None:
    """Too many wrong passwords for this name from one address. The caller sees to it that this is not said too often."""
    user = User.objects.filter(username=name).first()
    if user is not None:
        record(Action.LOGIN_LOCKED, actor="web", subject=user)


@transition
def change_access(user: User, *, roles: Sequence[str], tenants: Collection[Tenant] | None, is_active: bool, actor: Actor) -> User:
    """Give a user exactly these roles and tenants (None: every tenant), or take the account out of use. It holds from the next request on.

    Raises: InvalidInput ROLE_UNKNOWN; TransitionRefused OWN_ACCESS, so that one administrator alone is no approver.
    """
    _check_roles(roles)
    if isinstance(actor, User) and stands_for(actor) == stands_for(user):
        raise TransitionRefused("OWN_ACCESS", "nobody changes their own access; another administrator does", user.username)
    user = User.objects.select_for_update(of=("self",), no_key=True).get(pk=user.pk)
    user.is_active, user.is_limited_to_tenants = is_active, tenants is not None
    user.save(update_fields=["is_active", "is_limited_to_tenants"])
    user.groups.set(Group.objects.filter(name__in=roles))
    user.tenants.set(tenants or [])
    details = {
        "roles": sorted(roles),
        "tenants": None if tenants is None else sorted(tenant.name for tenant in tenants),
        "is_active": is_active,
    }
    record(Action.USER_ACCESS_CHANGED, actor=actor, subject=user, details=details)
    return user


@transition
def issue_token(
    user: User, *, name: str, actor: Actor, days: int = 90, scopes: Sequence[str] | None = None, tenant: Tenant | None = None
) -> tuple[ApiToken, str]:
    """A new API token and its secret, which is shown this once. Without scopes and tenant it may do what its user may.

    People issue their own; for somebody else it takes a service account, so that nobody acts under another person's name.
    Raises: TransitionRefused TOKEN_OF_ANOTHER; InvalidInput TOKEN_SCOPE, TOKEN_DAYS.
    """
    if not 1 <= days <= MAX_TOKEN_DAYS:
        raise InvalidInput("TOKEN_DAYS", f"a token lives 1 to {MAX_TOKEN_DAYS} days, not {days}", str(days))
    expires_at = timezone.now() + timedelta(days=days)
    if isinstance(actor, User):
        if user.acts_for_id is None and user != actor:
            raise TransitionRefused("TOKEN_OF_ANOTHER", f"only {user} issues tokens of {user}; make a service account", user.username)
        _stay_within(actor.token, scopes=scopes, tenant=tenant, expires_at=expires_at)
    if scopes is not None:
        _check_scopes(user, scopes)
    if tenant is not None and user.visible_tenants is not None and tenant.pk not in user.visible_tenants:
        raise InvalidInput("TOKEN_SCOPE", f"{user} does not see that tenant", tenant.name)
    secret = make_token(PERSON)
    token = ApiToken.objects.create(
        user=user,
        name=name,
        prefix=secret[:12],
        secret_sha256=hash_secret(secret),
        scopes=sorted(set(scopes)) if scopes is not None else None,
        tenant=tenant,
        expires_at=expires_at,
    )
    details = {"token": token.prefix, "name": name, "days": days, "scopes": token.scopes, "tenant": tenant.name if tenant else None}
    record(Action.TOKEN_ISSUED, actor=actor, subject=user, details=details)
    return token, secret


@transition
def revoke_token(token: ApiToken, *, actor: Actor) -> None:
    """The token stops working with the next request."""
    if ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=timezone.now()):
        record(Action.TOKEN_REVOKED, actor=actor, subject=token.user, details={"token": token.prefix})


def note_token_use(token: ApiToken, *, now: datetime) -> None:
    """Remember when a token was last used, to the minute. No transition: it is of no consequence and leaves no event."""
    since = now - LAST_USED_EVERY
    if token.last_used_at is None or token.last_used_at < since:
        ApiToken.objects.filter(Q(last_used_at__isnull=True) | Q(last_used_at__lt=since), pk=token.pk).update(last_used_at=now)


@transition
def note_refused_token(token: ApiToken, *, reason: str) -> None:
    """Somebody holds a token that no longer works. The caller sees to it that this is not said too often."""
    record(Action.TOKEN_REFUSED, actor="web", subject=token.user, details={"token": token.prefix, "reason": reason})


def _check_roles(roles: Sequence[str]) -> None:
    unknown = sorted(set(roles) - set(Role.values))
    if unknown:
        raise InvalidInput("ROLE_UNKNOWN", f"no role {unknown[0]!r}; roles are {', '.join(Role.values)}", unknown[0])


def _check_scopes(user: User, scopes: Sequence[str]) -> None:
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise InvalidInput("TOKEN_SCOPE", f"a token's scopes are one or more of {', '.join(SCOPES)}", unknown[0] if unknown else None)
    missing = sorted(set(scopes) - {READ_ONLY} - set(user.groups.values_list("name", flat=True)))
    if missing:
        raise InvalidInput("TOKEN_SCOPE", f"{user} does not hold the role {missing[0]}", missing[0])


def _stay_within(used: ApiToken | None, *, scopes: Sequence[str] | None, tenant: Tenant | None, expires_at: datetime) -> None:
    """A token that asks for another one cannot get more than it has itself: a short-lived one would otherwise live for ever."""
    if used is None:
        return
    wider = used.scopes is not None and (scopes is None or not set(scopes) <= {*used.scopes, READ_ONLY})
    elsewhere = used.tenant_id is not None and (tenant is None or tenant.pk != used.tenant_id)
    longer = used.expires_at is not None and expires_at > used.expires_at + timedelta(minutes=1)
    if wider or elsewhere or longer:
        what = "scopes" if wider else "tenant" if elsewhere else "expiry"
        raise InvalidInput("TOKEN_SCOPE", f"a token asked for with a token stays within it; this one's {what} would not", what)


def hash_secret(secret: str) -> str:
    """Secrets have 256 random bits, so a plain sha256 cannot be searched."""
    return sha256(secret.encode()).hexdigest()


def stands_for(user: User) -> int:
    """The person who answers for a user: a service account counts as its owner."""
    return user.acts_for_id or user.pk
