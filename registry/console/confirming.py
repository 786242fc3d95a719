"""What raises steering is shown in the words of a plan, with a place for the reason, before it is done."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib import messages
from django.http import HttpResponse

from registry.console.pages import Request, render_page
from registry.errors import ConfirmationNeeded, TransitionRefused
from registry.manifests.kinds.raising import ChangePlan, describe_plan

Done = TypeVar("Done")
_OWN = ("csrfmiddlewaretoken", "confirm", "reason")


def do_or_ask(
    request: Request, do: Callable[[str | None], Done], plan: Callable[[], ChangePlan], *, title: str
) -> tuple[Done | None, HttpResponse | None]:
    """Do it, if it raises nothing or the form hands back the digest of its plan. Otherwise the page that shows the plan."""
    confirmed = request.POST.get("confirm") or None
    try:
        return do(confirmed), None
    except ConfirmationNeeded:
        pass
    except TransitionRefused as error:
        if error.code != "PLAN_STALE":
            raise
        messages.error(request, f"Nothing was done: {error.message}. ({error.code})")
    return None, ask(request, plan(), title=title)


def ask(request: Request, plan: ChangePlan, *, title: str) -> HttpResponse:
    """The plan, and the form as it was sent, to be sent again with its digest and a reason."""
    fields = [(name, value) for name, values in request.POST.lists() for value in values if name not in _OWN]
    context: dict[str, Any] = {"plan": plan, "lines": describe_plan(plan), "fields": fields, "reason": request.POST.get("reason", "")}
    return render_page(request, "console/confirm.html", title=title, subtitle=plan.what, **context)
