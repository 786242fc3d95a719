"""Profiles: an intent, its revisions, and where it steers."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect

from registry.console.forms.profiles import ProfileForm
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.models import KillKind, Profile, Role, TenantFlag
from registry.reads.obedience import with_obedience
from registry.reads.steering import engaged_kills
from registry.services.profiles import create_profile


@page()
def show_profile(request: Request, name: str) -> HttpResponse:
    profile = get_object_or_404(Profile.objects.select_related("owner"), name=name)
    kills = engaged_kills().filter(kind=KillKind.PROFILE, target=profile.name)
    return render_page(
        request,
        "console/profile.html",
        title=f"Profile {profile.name}",
        profile=profile,
        revisions=profile.revisions.select_related("author", "base_model", "evaluation"),
        flags=TenantFlag.objects.filter(revision__profile=profile).select_related("environment", "tenant", "revision__profile"),
        kills=with_obedience(kills.select_related("engaged_by", "reported_by")),
    )


@page(Role.AUTHOR)
def new_profile(request: Request) -> HttpResponse:
    return _ask(request, ProfileForm())


@action(Role.AUTHOR)
def make_profile(request: Request) -> HttpResponse:
    form = ProfileForm(request.POST)
    if accept(request, form):
        with telling(request, "Created. Draft its first revision from a vector."):
            data = {**form.cleaned_data, "risk_class": form.cleaned_data["risk_class"].name}
            profile = create_profile(**data, owner=request.user)
            return redirect("console:profile", profile.name)
    return _ask(request, form)


def _ask(request: Request, form: ProfileForm) -> HttpResponse:
    lead = "A profile is a named intent. It does nothing until one of its revisions is approved and a flag points at it."
    return render_page(
        request, "console/form.html", title="New profile", form=form, action_view="console:create-profile", submit="Create", lead=lead
    )
