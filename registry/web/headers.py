"""The headers that tell browsers what a page of the hub may do. Answers that say so themselves, as downloads do, keep their word."""

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

# Alpine, which the admin theme is built with, evaluates the expressions in its attributes, and the theme sets styles in place.
# No script stands in a page, none comes from elsewhere, and nothing is framed.
_POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
# Browsers apply form-action to where a form leads in the end, and the login form leads to the provider.
_POLICY_TEXT = "; ".join(f"{name} {value}" for name, value in _POLICY.items()) + "; form-action 'self'"


class SecurityHeaders(MiddlewareMixin):
    """HSTS, nosniff, the referrer policy and the opener policy are Django's own (SecurityMiddleware)."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        provider = " https:" if settings.STEERHUB_OIDC_ISSUER else ""
        response.setdefault("Content-Security-Policy", _POLICY_TEXT + provider)
        response.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
        return response
