"""What was about to happen when a form came too late, and the button that makes it happen."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import resolve

from registry.console.forms.kills import name_target
from registry.console.kept import KeptForm, forget_form, is_from_here, keep_for_login, kept_form, live_on, read_form
from registry.console.pages import Request, action, page, render_page
from registry.models import BaseModel, Freeze, Job, Kill, Profile, ProfileRevision, Proposal, SteeringVector, Tenant, User
from registry.reads.visibility import is_limited, visible_to

# What addresses and forms name by key. Nobody reads a key.
_RECORDS: dict[str, type[models.Model]] = {
    "base_model": BaseModel,
    "covers": BaseModel,
    "freeze": Freeze,
    "job": Job,
    "kill": Kill,
    "profile": Profile,
    "proposal": Proposal,
    "revision": ProfileRevision,
    "tenant": Tenant,
    "vector": SteeringVector,
}
_SHARED_OR_OWN = {"tenant": "pk", "kill": "tenant"}
_NOT_SHOWN = ("next", "read_as")


@dataclass(frozen=True)
class Intent:
    """A form in words: what it does, to what, and whether steering goes on until it is confirmed."""

    what: str
    says: list[tuple[str, str]]
    is_kill: bool


@page(limited=True)
def show_kept(request: Request) -> HttpResponse:
    live_on(request)
    kept = kept_form(request)
    if kept is None:
        messages.error(request, "Nothing waits to be confirmed here. What you sent before you signed in was not done.")
        return redirect("admin:index")
    return _ask(request, kept)


@action(limited=True)
def discard(request: Request) -> HttpResponse:
    forget_form(request)
    messages.success(request, "Not done, and forgotten.")
    return redirect("admin:index")


def show_csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """In place of Django's bare page: a form of ours is asked about again, any other is refused."""
    if not _is_action(request.path) or not is_from_here(request):
        sentence = "This form did not come from a page of ours, or your browser keeps no cookies. Nothing was done. (CSRF)"
        return render(request, "account/refused.html", {"sentence": sentence, "title": "Refused"}, status=403)
    if not admin.site.has_permission(request):
        return keep_for_login(request)
    # A limited person's page too: it shows them what they sent, and names nothing that they do not see.
    return _ask(request, read_form(request), status=403)  # type: ignore[arg-type]  # has_permission says that somebody signed in


def _is_action(path: str) -> bool:
    return getattr(resolve(path).func, "is_action", False)


def _ask(request: Request, kept: KeptForm, *, status: int = 200) -> HttpResponse:
    intent = describe(kept, request.user)
    return render_page(request, "console/resume.html", title="Not done yet", kept=kept, intent=intent, status=status)


def describe(kept: KeptForm, user: User) -> Intent:
    match = resolve(kept.path)
    named = [*((name.removesuffix("_id"), value) for name, value in match.kwargs.items()), *kept.fields]
    says = [(name.replace("_", " "), _name(name, value, user)) for name, value in named if name not in _NOT_SHOWN and value != ""]
    name = str(match.url_name)
    is_kill = name == "engage-kill"
    if is_kill:
        says = [(what, name_target(value) if what == "target" else value) for what, value in says]
    return Intent(name.replace("-", " "), says, is_kill)


def _name(field: str, value: Any, user: User) -> str:
    """A record by what people call it, if the person may know of it; any other value as it is."""
    model = _RECORDS.get(field)
    try:
        key = value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        return str(value)
    if model is None or (is_limited(user) and field not in _SHARED_OR_OWN):
        return str(value)
    rows = model._default_manager.all()
    if field in _SHARED_OR_OWN:
        rows = visible_to(user, rows, tenant=_SHARED_OR_OWN[field], shared=field == "kill")
    found = rows.filter(pk=key).first()
    return str(found or value)
