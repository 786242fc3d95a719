"""The flags of one environment: which tenant is steered by what, how much, since when, by whose hand."""

from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from registry.console.forms import EnvironmentForm, FlagForm, KillForm, TenantForm
from registry.console.pages import accept, action, page, render_page, telling
from registry.errors import NotFound
from registry.models import Environment, Kill, KillKind, RevisionState, Role, Tenant, TenantFlag
from registry.selectors import engaged_kills, get_environment
from registry.services.flags import set_flag
from registry.services.tenants import create_environment, create_tenant


@dataclass(frozen=True)
class FlagView:
    """A flag and what it comes to once kills and the state of its revision are counted in."""

    flag: TenantFlag
    effect: str


def view_flags(environment: Environment) -> list[FlagView]:
    kills = list(engaged_kills(environment))
    flags = environment.flags.select_related("tenant", "revision__profile", "changed_by").order_by("tenant__name", "route")
    return [FlagView(flag, _effect(flag, kills)) for flag in flags]


def _effect(flag: TenantFlag, kills: list[Kill]) -> str:
    if not flag.enabled or flag.alpha_scale == 0:
        return "off"
    if any(_reaches(kill, flag) for kill in kills):
        return "killed"
    return "on" if flag.revision.state == RevisionState.APPROVED else flag.revision.state


def _reaches(kill: Kill, flag: TenantFlag) -> bool:
    if kill.kind == KillKind.TENANT:
        return kill.tenant_id == flag.tenant_id
    if kill.kind == KillKind.PROFILE:
        return kill.profile_id == flag.revision.profile_id
    return True


@page()
def open_flags(request: HttpRequest) -> HttpResponse:
    """The first environment's flags, production first: it is where a mistake costs most."""
    names = sorted(Environment.objects.values_list("name", flat=True), key=lambda name: (name != "production", name))
    if names:
        return redirect("console:environment-flags", names[0])
    return render_page(request, "console/flags.html", title="Flags", environment=None, environment_form=EnvironmentForm())


@page()
def show_flags(request: HttpRequest, name: str) -> HttpResponse:
    try:
        environment = get_environment(name)
    except NotFound as error:
        messages.error(request, f"{error.message} ({error.code})")
        return redirect("console:flags")
    flags = view_flags(environment)
    return render_page(
        request,
        "console/flags.html",
        title="Flags",
        subtitle=environment.name,
        environment=environment,
        environments=Environment.objects.all(),
        head=environment.snapshots.order_by("-revision").first(),
        flags=flags,
        unsteered=Tenant.objects.exclude(pk__in=[view.flag.tenant_id for view in flags]),
        kills=engaged_kills(environment),
        form=FlagForm.offering_approved(),
        tenant_form=TenantForm(),
        environment_form=EnvironmentForm(),
        kill_form=KillForm(initial={"target": f"environment:{environment.name}"}, seen_by=request.user),
    )


@action(Role.OPERATOR)
def change_flag(request: HttpRequest, name: str) -> HttpResponse:
    form = FlagForm(request.POST)
    if accept(request, form):
        data = form.cleaned_data
        with telling(request, f"{data['tenant']} is {'on' if data['enabled'] else 'off'} at α scale {data['alpha_scale']}."):
            set_flag(get_environment(name), **data, actor=request.user)
    return redirect("console:environment-flags", name)


@action(Role.OPERATOR)
def add_tenant(request: HttpRequest) -> HttpResponse:
    form = TenantForm(request.POST)
    if accept(request, form):
        with telling(request, "Tenant added, unsteered until a flag says otherwise."):
            create_tenant(**form.cleaned_data, actor=request.user)
    return redirect("console:flags")


@action(Role.OPERATOR)
def add_environment(request: HttpRequest) -> HttpResponse:
    form = EnvironmentForm(request.POST)
    if accept(request, form):
        with telling(request, "Environment added, with a first snapshot that steers nothing."):
            create_environment(form.cleaned_data["name"], actor=request.user)
    return redirect("console:flags")
