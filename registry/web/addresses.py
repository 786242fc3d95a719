"""From which address a request comes, behind as many proxies as the settings say."""

from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """The client's address, for counting failed logins.

    Each proxy appends the address it was called from to X-Forwarded-For, so the last entries are the proxies' own word and what
    stands before them is whatever the caller claimed. With STEERHUB_PROXIES=n the n-th entry from the end is the client's;
    with 0 the header is not looked at. A list that is too short, or no address, falls back to who is connected.
    """
    connected = request.META.get("REMOTE_ADDR") or "0.0.0.0"  # noqa: S104  (a unix socket has no address; nothing is bound here)
    if settings.STEERHUB_PROXIES == 0:
        return connected
    entries = [entry.strip() for entry in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    if len(entries) < settings.STEERHUB_PROXIES:
        return connected
    try:
        return str(ip_address(entries[-settings.STEERHUB_PROXIES]))
    except ValueError:
        return connected
