"""How people get in: by password or single sign-on, with a second factor if they set one up. Self sign-up is closed.

These are the hooks of django-allauth and django-axes; settings.py names them.
"""

from base64 import urlsafe_b64encode
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView, OAuth2View
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from registry.models import User
from registry.services.people import admit_person, note_locked_login, set_roles
from registry.web.addresses import client_address
from registry.web.alarms import Alarm

# One audit event a minute about each name and address that is locked out.
_alarm = Alarm(every_seconds=60)
SINGLE_SIGN_ON = "single sign-on"


class AccountAdapter(DefaultAccountAdapter):
    """Logins by password."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        return client_address(request)

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Failed passwords are counted by axes, for a name from an address. allauth would count them for a name alone, and
        whoever can guess wrong could then keep an operator from the kill switch."""


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    """Logins through the OpenID provider. Whoever it knows may log in; what they may do here is for an administrator to say."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return True

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """The two accounts of the provider, the signed token and the user info, must be of one person (OpenID Connect Core, 5.3.2)."""
        token = sociallogin.account.extra_data.get("id_token")
        if token is None or token.get("sub") != sociallogin.account.uid:
            raise ImmediateHttpResponse(_refuse(request, "The provider's answers are not about the same person."))
        if sociallogin.is_existing:
            _take_roles(sociallogin)

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        """Somebody new: no role, no tenant, no password, until an administrator says otherwise."""
        user = admit_person(sociallogin.user, save=lambda: super(SocialAccountAdapter, self).save_user(request, sociallogin, form))
        _take_roles(sociallogin)
        return user


class OpenIDAdapter(OpenIDConnectOAuth2Adapter):
    """The conversation with the provider. allauth trusts an id token because it came over TLS; here its signature is checked too."""

    def _decode_id_token(self, app: SocialApp, id_token: str) -> dict[str, Any]:
        self.did_fetch_access_token = False
        return super()._decode_id_token(app, id_token)


def start_single_sign_on(request: HttpRequest, provider_id: str) -> HttpResponse:
    return _with_provider(OAuth2LoginView, request, provider_id)


def end_single_sign_on(request: HttpRequest, provider_id: str) -> HttpResponse:
    return _with_provider(OAuth2CallbackView, request, provider_id)


def _with_provider(view: type[OAuth2View], request: HttpRequest, provider_id: str) -> HttpResponse:
    try:
        return view.adapter_view(OpenIDAdapter(request, provider_id))(request)
    except SocialApp.DoesNotExist as error:
        raise Http404 from error


class MFAAdapter(DefaultMFAAdapter):
    """Second factors. Their secrets are encrypted with a key that only the web process has, so the database alone is no way in."""

    def encrypt(self, text: str) -> str:
        return _fernet(settings.SECRET_KEY).encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
            try:
                return _fernet(secret).decrypt(encrypted_text.encode()).decode()
            except InvalidToken:
                continue
        raise InvalidToken("a second factor was encrypted with a key that STEERHUB_SECRET_KEY no longer is")


def show_locked_out(request: HttpRequest, answered: HttpResponse, credentials: dict[str, Any] | None) -> HttpResponse:
    """What axes answers instead, once too many passwords were wrong for this name from this address."""
    name = str((credentials or {}).get("username", ""))[:150]
    if _alarm.ring(f"{name} {client_address(request)}") is not None:
        note_locked_login(name)
    response = _refuse(request, "Too many wrong passwords for this name from this address. Try again in a quarter of an hour.", status=429)
    response["Retry-After"] = str(int(settings.AXES_COOLOFF_TIME.total_seconds()))
    return response


def _refuse(request: HttpRequest, sentence: str, *, status: int = 403) -> HttpResponse:
    return render(request, "account/refused.html", {"sentence": sentence}, status=status)


def _take_roles(sociallogin: SocialLogin) -> None:
    """Only where the settings name a claim: the roles that the provider gives, at each login, in place of those held before."""
    if not settings.STEERHUB_OIDC_ROLES_CLAIM:
        return
    said = sociallogin.account.extra_data["id_token"].get(settings.STEERHUB_OIDC_ROLES_CLAIM)
    groups = said if isinstance(said, list) else [said]
    roles = {role for group, role in settings.STEERHUB_OIDC_ROLES if group in groups}
    set_roles(sociallogin.user, roles=sorted(roles), actor=SINGLE_SIGN_ON)


def _fernet(secret: str) -> Fernet:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"steerhub second factors").derive(secret.encode())
    return Fernet(urlsafe_b64encode(key))
