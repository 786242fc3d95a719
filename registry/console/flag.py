"""One flag: what it states, what a request would get and why, and everything that was ever done to it."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from registry.audit.history import events_of, read_changes
from registry.console.forms.flags import ExplainForm, FlagForm
from registry.console.pages import Request, accept, page, render_page
from registry.errors import NotFound
from registry.models import FlagField, Tenant, TenantFlag
from registry.reads.documents import tag_flag
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
    flags = TenantFlag.objects.select_related("environment", "tenant", "revision__profile", "changed_by")
    flag = flags.prefetch_related("arms__revision__profile").filter(environment=environment, tenant=who, route=route).first()
    return render_page(
        request,
        "console/flag.html",
        title=f"{who}{f'/{route}' if route else ''}",
        subtitle=environment.name,
        environment=environment,
        tenant=who,
        route=route,
        flag=flag,
        routes=TenantFlag.objects.filter(environment=environment, tenant=who).exclude(route="").values_list("route", flat=True),
        asked=asked,
        explanation=explain_request(environment, who.name, route, key=given.get("key", ""), alpha=given.get("alpha")),
        form=FlagForm.offering_approved(auto_id="flag_%s", initial=_as_stated(flag) if flag else {"tenant": who.pk, "route": route}),
        changes=read_changes(list(events_of(flag)[:50])) if flag else [],
    )


def _as_stated(flag: TenantFlag) -> dict[str, object]:
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
