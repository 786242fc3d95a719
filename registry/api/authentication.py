"""Who is asking: an API token in the Authorization header. The console's pages use their session instead."""

import logging
from datetime import datetime

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from registry.models import ApiToken, User
from registry.services.people import hash_secret, note_refused_token, note_token_use
from registry.web.alarms import Alarm
from steernode.hub.tokens import is_well_formed

logger = logging.getLogger(__name__)
# One word a minute about each token that is refused, and one about all that nobody knows: a flood of them fills no log.
_alarm = Alarm(every_seconds=60)


class ApiTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer sht_...`. A token anywhere else, the query string included, is not looked at.

    Unknown, mistyped, expired, revoked and belonging to somebody who left are one answer, so that guessing teaches nothing.
    Two Authorization headers arrive as one with a comma in it, which no token has.
    """

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _, secret = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        token, reason = _find_token(secret.strip().decode("latin-1"))
        if token is None or reason:
            _tell(token, reason)
            raise AuthenticationFailed("the API token is unknown, expired or revoked")
        note_token_use(token, now=timezone.now())
        token.user.token = token
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="steerhub"'


def _find_token(secret: str) -> tuple[ApiToken | None, str]:
    """The token of this secret, and why it is refused if it is. A wrong checksum is refused before the database is asked."""
    if not is_well_formed(secret):
        return None, "malformed"
    token = ApiToken.objects.select_related("user__acts_for").filter(secret_sha256=hash_secret(secret)).first()
    return token, _why_refused(token, timezone.now()) if token else "unknown"


def _why_refused(token: ApiToken, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at is not None and token.expires_at <= now:
        return "expired"
    owner = token.user.acts_for or token.user
    return "" if token.user.is_active and owner.is_active else "departed"


def _tell(token: ApiToken | None, reason: str) -> None:
    """A token that once worked is worth an audit event; noise is worth a line. Neither shows what was sent."""
    subject = str(token.pk) if token else reason
    if (unsaid := _alarm.ring(subject)) is None:
        return
    logger.warning("refused a token: %s%s", reason, f" ({unsaid} more since the last such line)" if unsaid else "")
    if token is not None:
        note_refused_token(token, reason=reason)


class ApiTokenScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI document describes the token."""

    target_class = "registry.api.authentication.ApiTokenAuthentication"
    name = "apiToken"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API token, sht_..."}
