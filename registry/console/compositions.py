"""Several components judged together: the form that asks for it."""

from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect

from registry.console.forms.decoding import DecodingForm
from registry.console.pages import Request, accept, action, telling
from registry.models import ProfileRevision, Role
from registry.services.compositions import request_composition


@action(Role.AUTHOR)
def compose_revision(request: Request, revision_id: UUID) -> HttpResponse:
    form = DecodingForm(request.POST)
    if accept(request, form):
        with telling(request):
            revision = get_object_or_404(ProfileRevision, pk=revision_id)
            stated = {name: form.cleaned_data[name] for name in ("decoding", "again")}
            job = request_composition(revision=revision, suites=form.suites(), actor=request.user, **stated)
            return redirect("console:job", job.pk)
    return redirect("console:revision", revision_id)
