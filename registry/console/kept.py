"""A form that came too late: its session had ended, or its CSRF token was another's. It is kept in the session of the browser that sent
it until somebody signs in there, is shown what was about to happen, and confirms. Until then nothing was done.

A kept form is no permission: it is sent again by whoever confirms, in their name, and is judged then.
"""

import time
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

_KEY = "kept_form"
# Nobody has signed in who could be held to account for what is stored, so it is little and for a short time. The longest reason has 2,000
# characters; a data set is a file, and is chosen again.
MOST_BYTES = 64 * 1024
KEPT_SECONDS = 3600


@dataclass(frozen=True)
class KeptForm:
    """Where a form was sent, and what it said. What is not kept is named in `left_out`."""

    path: str
    fields: list[tuple[str, str]]
    left_out: list[str] = field(default_factory=list)
    at: float = 0.0


def read_form(request: HttpRequest) -> KeptForm:
    """A form as it came, without its CSRF token, its files, and anything that could be a password."""
    sent = [(name, value) for name, values in request.POST.lists() for value in values if name != "csrfmiddlewaretoken"]
    fields = [(name, value) for name, value in sent if "password" not in name.lower()]
    left_out = sorted({*request.FILES, *(name for name, _ in sent if "password" in name.lower())})
    if sum(len(name) + len(value) for name, value in fields) > MOST_BYTES:
        fields, left_out = [], sorted({name for name, _ in sent} | set(left_out))
    return KeptForm(request.path, fields, left_out, time.time())


def keep_for_login(request: HttpRequest) -> HttpResponse:
    """Keep the form, and send the person to the login and from there to what was about to happen."""
    request.session[_KEY] = asdict(read_form(request))
    request.session.set_expiry(KEPT_SECONDS)
    return redirect_to_login(reverse("console:resume"))


def kept_form(request: HttpRequest) -> KeptForm | None:
    stored = request.session.get(_KEY)
    if stored is None:
        return None
    if time.time() - stored["at"] > KEPT_SECONDS:
        forget_form(request)
        return None
    return KeptForm(stored["path"], [(name, value) for name, value in stored["fields"]], stored["left_out"], stored["at"])


def forget_form(request: HttpRequest, *, sent_to: str = "") -> None:
    """Whatever is kept, or only what was sent to this address."""
    if sent_to in ("", request.session.get(_KEY, {}).get("path")):
        request.session.pop(_KEY, None)


def live_on(request: HttpRequest) -> None:
    """The session of somebody who signed in is no longer that of a kept form, so it lasts as long as any other."""
    if request.session.get("_session_expiry") == KEPT_SECONDS:
        request.session.set_expiry(None)


def is_from_here(request: HttpRequest) -> bool:
    """Whether a page of ours sent this form, by what browsers say of where it came from. Another site's is not even shown."""
    origin = request.headers.get("Origin") or "{0.scheme}://{0.netloc}".format(urlsplit(request.headers.get("Referer", "")))
    return origin in (f"{request.scheme}://{request.get_host()}", *settings.CSRF_TRUSTED_ORIGINS)
