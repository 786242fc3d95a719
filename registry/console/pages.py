"""What every page of the console shares: who may see it, its frame, and how a refusal is told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.views import redirect_to_login
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from registry.console.kept import forget_form, keep_for_login
from registry.models import MAY_KILL, Role, User
from registry.reads.visibility import is_limited
from steernode.errors import SteerError

View = Callable[..., HttpResponse]


class Request(HttpRequest):
    """A request of somebody who has logged in: the pages of the admin are shown to nobody else."""

    user: User


def page(*roles: str, limited: bool = False) -> Callable[[View], View]:
    """A page to look at. Everyone who may log in sees it, or with `roles` only those who hold one of them.

    People limited to some tenants see it with `limited`: the page promises to show nothing of other tenants.
    """
    # admin_view asks for a login, adds the CSRF check and forbids caching, as for every page of the admin.
    return lambda view: admin.site.admin_view(require_safe(_guard(view, roles, limited)))


def action(*roles: str, limited: bool = False) -> Callable[[View], View]:
    """A change: POST only, CSRF checked, and only by a person who holds one of `roles`. Being a superuser is not a role.

    A form of somebody whose session has ended is kept until they have signed in, and asked about then.
    """

    def decorate(view: View) -> View:
        shown = admin.site.admin_view(_guard(view, roles, limited))

        @wraps(view)
        def receive(request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
            if not admin.site.has_permission(request):
                # An address that takes forms is nowhere to come back to.
                return keep_for_login(request) if request.method == "POST" else redirect_to_login(reverse("admin:index"))
            if request.method != "POST":
                return render_page(request, "console/refused_form.html", title="This address takes a form", status=405)
            forget_form(request, sent_to=request.path)
            return shown(request, *args, **kwargs)

        receive.is_action = True  # type: ignore[attr-defined]  # for whoever gets a form past this, such as a failed CSRF check
        return receive

    return decorate


def _guard(view: View, roles: tuple[str, ...], limited: bool) -> View:
    @wraps(view)
    def guarded(request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        if roles and not request.user.has_role(*roles):
            return refuse(request, roles)
        if is_limited(request.user) and not limited:
            return refuse_limited(request)
        return view(request, *args, **kwargs)

    return guarded


def refuse(request: Request, roles: tuple[str, ...]) -> HttpResponse:
    """Say which role is missing. A superuser meets this page like anyone else."""
    needed = " or ".join(Role(role).label.lower() for role in roles)
    return render_page(request, "console/refused.html", title="Not with your role", status=403, needed=needed)


def refuse_limited(request: Request) -> HttpResponse:
    return render_page(request, "console/refused_limited.html", title="Beyond your tenants", status=403)


def render_page(request: Request, template: str, *, title: str, subtitle: str = "", status: int = 200, **context: Any) -> HttpResponse:
    """A page inside the admin's frame, with its sidebar and its theme."""
    request.current_app = admin.site.name
    context = {**admin.site.each_context(request), "title": title, "subtitle": subtitle, "may": roles_of(request), **context}
    return TemplateResponse(request, template, context, status=status)


def roles_of(request: Request) -> dict[str, bool]:
    """Which roles the person holds, for templates: {"operator": True, ..., "kill": True}."""
    held = request.user.held_roles()
    return {**{role.value: role.value in held for role in Role}, "kill": bool(held & set(MAY_KILL)), "any": bool(held & set(Role.values))}


@contextmanager
def telling(request: Request, done: str = "") -> Iterator[None]:
    """Run one service call. Its refusal becomes a message with the stable code; success becomes `done`."""
    try:
        yield
    except SteerError as error:
        messages.error(request, f"{error.message[:1].upper()}{error.message[1:]}. ({error.code})")
    else:
        if done:
            messages.success(request, done)


def accept(request: Request, form: BaseForm) -> bool:
    """Whether the form is valid; if not, each problem becomes a message that names its field."""
    if form.is_valid():
        return True
    for name, problems in form.errors.items():
        label = form.fields[name].label if name in form.fields else ""
        for problem in problems:
            messages.error(request, f"{label}: {problem}" if label else str(problem))
    return False
