"""The flags of one environment: which tenant is steered by what, how much, since when, by whose hand."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from registry.console.confirming import ask, do_or_ask
from registry.console.flag import name_flag
from registry.console.forms.flags import EnvironmentForm, FreezeForm, OpenFlagForm, SwitchForm, TenantForm
from registry.console.forms.kills import KillForm
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.errors import NotFound
from registry.manifests.kinds.raising import change_flag, plan_flag
from registry.models import Environment, ProfileRevision, Role, Tenant, TenantFlag
from registry.reads.inheritance import Id, InheritedFlag, read_flags
from registry.reads.lookups import get_environment
from registry.reads.obedience import with_obedience
from registry.reads.steering import engaged_kills, freeze_in_force, head_snapshot
from registry.services.tenants import create_environment, create_tenant
from registry.snapshots import read_heads
from steernode.canonical import format_decimal
from steernode.snapshot.resolve import Effective, resolve_arms
from steernode.words import EVERYBODY

TENANTS_ON_A_PAGE = 50
# By id, and nothing under the id of no revision.
Revisions = Mapping[str | None, ProfileRevision]


@dataclass(frozen=True)
class FlagView:
    """A flag, whether it steers anybody now by the newest snapshot, and what it says in words."""

    flag: TenantFlag
    effect: str
    terms: list[str]


def view_flags(environment: Environment, tenants: Iterable[Tenant]) -> list[FlagView]:
    """The flags of these tenants."""
    head = read_heads([environment]).get(environment.name)
    rows = environment.flags.filter(tenant__in=tenants)
    records = {str(row.pk): row for row in rows.select_related("environment", "tenant", "changed_by")}
    flags = read_flags(rows)
    named = {flag.revision_id for flag in flags} | {arm.revision_id for flag in flags for arm in flag.arms}
    found = ProfileRevision.objects.select_related("profile").filter(pk__in=[key for key in named if key])
    revisions: Revisions = {str(revision.pk): revision for revision in found}

    def view(flag: InheritedFlag[Id]) -> FlagView:
        listed = head.flag_for(flag.tenant, flag.route) if head else None
        answers = resolve_arms(head, listed) if head and listed else []
        record = records[flag.flag_id]
        return FlagView(record, _describe_effect(record.enabled, flag, answers, revisions), _describe_terms(flag, answers, revisions))

    return [view(flag) for flag in flags]


def _describe_effect(is_enabled: bool, flag: InheritedFlag[Id], answers: list[Effective], revisions: Revisions) -> str:
    if not is_enabled:
        return "off"
    if not flag.is_on:
        return "off with the tenant"
    if any(answer.profile for answer in answers):
        return "on"
    if any(answer.killed_by for answer in answers):
        return "killed"
    if any(answer.reason == "not_in_rollout" for answer in answers):
        return "on for nobody"
    if not flag.offered:
        return "on at α scale 0"
    states = {revisions[arm.revision_id].state for arm in flag.choices if arm.revision_id in revisions}
    return "approved, not served" if states == {"approved"} else ", ".join(sorted(states))


def _describe_terms(flag: InheritedFlag[Id], answers: list[Effective], revisions: Revisions) -> list[str]:
    """What the flag gives, in words; nothing is said of what is as it is by default."""
    killed = {answer.arm for answer in answers if answer.killed_by}
    terms = [] if flag.arms else [f"{revisions.get(flag.revision_id, 'nothing')} × {format_decimal(flag.alpha_scale)}"]
    for arm in flag.arms:
        gives = f"{revisions.get(arm.revision_id)} × {format_decimal(arm.alpha_scale)}"
        terms.append(f"{arm.name}: {arm.weight} of callers, {gives}{', killed' if arm.name in killed else ''}")
    if flag.rollout < EVERYBODY:
        terms.append(f"for {format_decimal(flag.rollout)} % of callers")
    if flag.override is not None:
        terms.append(f"requests may ask for α {flag.override}")
    if flag.inherited:
        terms.append(f"from the tenant's flag: {', '.join(flag.inherited)}")
    return terms


@page()
def open_flags(request: Request) -> HttpResponse:
    """The first environment's flags, production first: it is where a mistake costs most."""
    names = sorted(Environment.objects.values_list("name", flat=True), key=lambda name: (name != "production", name))
    if names:
        return redirect("console:environment-flags", names[0])
    return render_page(request, "console/flags.html", title="Flags", environment=None, environment_form=EnvironmentForm())


@page()
def show_flags(request: Request, name: str) -> HttpResponse:
    try:
        environment = get_environment(name)
    except NotFound as error:
        messages.error(request, f"{error.message} ({error.code})")
        return redirect("console:flags")
    wanted = request.GET.get("q", "").strip()
    tenants = Paginator(Tenant.objects.filter(name__icontains=wanted).order_by("name"), TENANTS_ON_A_PAGE).get_page(request.GET.get("page"))
    flags = view_flags(environment, tenants.object_list)
    now = timezone.now()
    freezes = environment.freezes.filter(ends_at__gt=now, ended_at__isnull=True).select_related("declared_by").order_by("starts_at")
    return render_page(
        request,
        "console/flags.html",
        title="Flags",
        subtitle=environment.name,
        environment=environment,
        environments=Environment.objects.all(),
        head=head_snapshot(environment),
        flags=flags,
        wanted=wanted,
        tenants=tenants,
        unsteered=[tenant for tenant in tenants if tenant.pk not in {view.flag.tenant_id for view in flags}],
        kills=with_obedience(engaged_kills(environment).select_related("engaged_by", "reported_by")),
        freeze=freeze_in_force(environment, now),
        freezes=[(freeze, freeze.state_at(now)) for freeze in freezes],
        # Each form of the page has ids of its own, so that a label belongs to one field.
        freeze_form=FreezeForm(auto_id="freeze_%s"),
        open_form=OpenFlagForm(auto_id="open_%s"),
        tenant_form=TenantForm(),
        environment_form=EnvironmentForm(),
        kill_form=KillForm(initial={"target": f"environment:{environment.name}"}, seen_by=request.user),
    )


@page()
def open_flag(request: Request, name: str) -> HttpResponse:
    """To the page of a tenant's flag, or of a route's, whether or not there is one yet."""
    form = OpenFlagForm(request.GET)
    if not accept(request, form):
        return redirect("console:environment-flags", name)
    address, route = reverse("console:flag", args=[name, form.cleaned_data["tenant"].name]), form.cleaned_data["route"]
    return redirect(f"{address}?{urlencode({'route': route})}" if route else address)


@action(Role.OPERATOR)
def switch_flag(request: Request, name: str) -> HttpResponse:
    """One button: on or off, and all else as it is. Off at once; on once the person has seen what it means, and said why."""
    form = SwitchForm(request.POST)
    if accept(request, form):
        stated = form.cleaned_data
        reason = stated.pop("reason")
        with telling(request):
            environment = get_environment(name)
            if stated["enabled"] and not reason:
                return ask(request, plan_flag(environment, **stated, actor=request.user), title="Turn on")
            flag, question = do_or_ask(
                request,
                lambda confirmed: change_flag(
                    environment, **stated, reason=reason or "Turned off in the console", actor=request.user, confirmed=confirmed
                ),
                lambda: plan_flag(environment, **stated, actor=request.user),
                title="Turn on",
            )
            if flag is None:
                return cast(HttpResponse, question)
            messages.success(request, f"{name_flag(flag)} is {'on' if flag.enabled else 'off'}.")
    return redirect("console:environment-flags", name)


@action(Role.OPERATOR)
def add_tenant(request: Request) -> HttpResponse:
    form = TenantForm(request.POST)
    if accept(request, form):
        with telling(request, "Tenant added, unsteered until a flag says otherwise."):
            create_tenant(**form.cleaned_data, actor=request.user)
    return redirect("console:flags")


@action(Role.OPERATOR)
def add_environment(request: Request) -> HttpResponse:
    form = EnvironmentForm(request.POST)
    if accept(request, form):
        with telling(request, "Environment added, with a first snapshot that steers nothing."):
            create_environment(form.cleaned_data["name"], actor=request.user)
    return redirect("console:flags")
