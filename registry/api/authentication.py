"""Who is asking: an API token in the Authorization header. The console's pages use their session instead."""

from django.db.models import Q
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from registry.models import ApiToken, User
from registry.services.people import hash_secret


class ApiTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer sht_...`. A token anywhere else, the query string included, is not looked at.

    Unknown, expired, revoked and belonging to somebody who left are one answer, so that guessing teaches nothing.
    """

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _, secret = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        now = timezone.now()
        token = (
            ApiToken.objects.select_related("user")
            .filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), secret_sha256=hash_secret(secret.strip().decode("latin-1")))
            .filter(Q(user__acts_for__isnull=True) | Q(user__acts_for__is_active=True), user__is_active=True, revoked_at__isnull=True)
            .first()
        )
        if token is None:
            raise AuthenticationFailed("the API token is unknown, expired or revoked")
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="steerhub"'


class ApiTokenScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI document describes the token."""

    target_class = "registry.api.authentication.ApiTokenAuthentication"
    name = "apiToken"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API token, sht_..."}
