"""One flag: what it states, what a request would get and why, and everything that was ever done to it."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, cast

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from registry.audit.history import events_of, read_changes
from registry.console.confirming import do_or_ask
from registry.console.forms.flags import ExplainForm, FlagForm
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.errors import NotFound
from registry.manifests.kinds import raising
from registry.models import Environment, FlagField, ProfileRevision, Role, Tenant, TenantFlag
from registry.reads.documents import NO_FLAG, tag_flag
from registry.reads.lookups import get_environment
from registry.snapshots import explain_request
from steernode.canonical import format_decimal
from steernode.hub.flagtext import ArmText, write_arm


@page()
def show_flag(request: Request, name: str, tenant: str) -> HttpResponse:
    """The flag of a tenant, or with `route` that of a route; with `key` and `alpha`, what such a request would get."""
    try:
        environment = get_environment(name)
        who = Tenant.objects.filter(name=tenant).first()
        if who is None:
            raise NotFound("TENANT_NOT_FOUND", f"no tenant {tenant!r}", tenant)
    except NotFound as error:
        messages.error(request, f"{error.message} ({error.code})")
        return redirect("console:flags")
    asked = ExplainForm(request.GET)
    given = asked.cleaned_data if accept(request, asked) else {}
    route = given.get("route", "")
    stated = read_stated(environment, who, route)
    form = FlagForm.offering_approved(auto_id="flag_%s", initial=stated)
    return _render(request, environment, who, route, form=form, asked=asked, key=given.get("key", ""), alpha=given.get("alpha"))


@action(Role.OPERATOR)
def change_flag(request: Request, name: str) -> HttpResponse:
    """Only what was changed in the form. If the flag changed meanwhile nothing is done: the form comes back over the flag as it is now.

    What is refused comes back as it was filled in, with the reason beside it.
    """
    form = FlagForm(request.POST, auto_id="flag_%s")
    is_valid = accept(request, form)
    tenant, route = form.cleaned_data.get("tenant"), form.cleaned_data.get("route", "")
    with telling(request):
        environment = get_environment(name)
        if is_valid:
            stated = form.stated()
            planned = {name: value for name, value in stated.items() if name not in ("reason", "if_tag")}
            flag, question = do_or_ask(
                request,
                lambda confirmed: raising.change_flag(environment, **stated, actor=request.user, confirmed=confirmed),
                lambda: raising.plan_flag(environment, **planned, actor=request.user),
                title="Set a flag",
            )
            if flag is None:
                return cast(HttpResponse, question)
            messages.success(request, f"{name_flag(flag)} is {'on' if flag.enabled else 'off'}{_scale(flag)}.")
            return redirect("console:environment-flags", name)
    where = Environment.objects.filter(name=name).first()
    if where is None or tenant is None:
        return redirect("console:flags")
    now = read_stated(where, tenant, route)
    conflict = _find_conflict(form, now) if form.cleaned_data.get("read_as") not in ("", None, now["read_as"]) else []
    return _render(request, where, tenant, route, form=form.reread(now), conflict=conflict, status=409 if conflict else 422)


def _find_conflict(form: FlagForm, now: dict[str, Any]) -> list[str]:
    """In words, what is other now than when the form was opened."""
    lines = []
    for name, field in form.fields.items():
        opened = form.data.get(f"initial-{name}", "") if field.show_hidden_initial and name != "inherit" else None
        is_now = str(now.get(name) if now.get(name) is not None else "")
        if opened is not None and opened.replace("\r\n", "\n") != is_now:
            lines.append(f"{field.label}: {_show(form, name, opened)} → {_show(form, name, is_now)}")
    return lines


def _show(form: FlagForm, name: str, value: str) -> str:
    if name == "revision" and value:
        return str(ProfileRevision.objects.select_related("profile").filter(pk=value).first() or value)
    if name == "enabled":
        return "on" if value == "True" else "off"
    return value or "nothing"


def _render(
    request: Request,
    environment: Environment,
    tenant: Tenant,
    route: str,
    *,
    form: FlagForm,
    asked: ExplainForm | None = None,
    key: str = "",
    alpha: Decimal | None = None,
    conflict: Sequence[str] = (),
    status: int = 200,
) -> HttpResponse:
    flag = find_flag(environment, tenant, route)
    return render_page(
        request,
        "console/flag.html",
        title=f"{tenant}{f'/{route}' if route else ''}",
        subtitle=environment.name,
        status=status,
        environment=environment,
        tenant=tenant,
        route=route,
        flag=flag,
        routes=TenantFlag.objects.filter(environment=environment, tenant=tenant).exclude(route="").values_list("route", flat=True),
        asked=asked or ExplainForm({"route": route}),
        explanation=explain_request(environment, tenant.name, route, key=key, alpha=alpha),
        form=form,
        conflict=conflict,
        changes=read_changes(list(events_of(flag)[:50])) if flag else [],
    )


def find_flag(environment: Environment, tenant: Tenant, route: str) -> TenantFlag | None:
    flags = TenantFlag.objects.select_related("environment", "tenant", "revision__profile", "changed_by")
    return flags.prefetch_related("arms__revision__profile").filter(environment=environment, tenant=tenant, route=route).first()


def name_flag(flag: TenantFlag) -> str:
    return f"{flag.tenant}/{flag.route}" if flag.route else str(flag.tenant)


def _scale(flag: TenantFlag) -> str:
    return "" if flag.alpha_scale is None else f" at α scale {format_decimal(flag.alpha_scale)}"


def read_stated(environment: Environment, tenant: Tenant, route: str) -> dict[str, Any]:
    """What the form of a flag opens with, whether or not there is one yet."""
    flag = find_flag(environment, tenant, route)
    return _as_stated(flag) if flag else {"tenant": tenant.pk, "route": route, "enabled": False, "read_as": NO_FLAG}


def _as_stated(flag: TenantFlag) -> dict[str, Any]:
    """The form filled in with what the flag states. What it inherits stays empty."""
    arms = [
        ArmText(
            arm.name,
            arm.weight,
            arm.revision.profile.name if arm.revision else None,
            arm.revision.number if arm.revision else None,
            arm.alpha_scale,
        )
        for arm in flag.arms.all()
    ]
    bounds = "" if flag.override_min is None else f"{format_decimal(flag.override_min)}:{format_decimal(flag.override_max)}"
    return {
        "tenant": flag.tenant_id,
        "route": flag.route,
        "revision": flag.revision_id,
        "alpha_scale": "" if flag.alpha_scale is None else format_decimal(flag.alpha_scale),
        "rollout": "" if flag.rollout is None else format_decimal(flag.rollout),
        "arms": "\n".join(write_arm(arm) for arm in arms) or ("" if FlagField.ARMS in flag.inherits else "none"),
        "override": bounds or ("" if FlagField.OVERRIDE in flag.inherits else "none"),
        "inherit": flag.inherits,
        "enabled": flag.enabled,
        "read_as": tag_flag(flag),
    }
