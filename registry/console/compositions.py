"""Several components judged together: the form that asks for it."""

from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect

from registry.console.forms.suites import SuitesForm
from registry.console.pages import Request, accept, action, telling
from registry.models import ProfileRevision, Role
from registry.services.compositions import request_composition


@action(Role.AUTHOR)
def compose_revision(request: Request, revision_id: UUID) -> HttpResponse:
    form = SuitesForm(request.POST)
    if accept(request, form):
        with telling(request):
            job = request_composition(revision=get_object_or_404(ProfileRevision, pk=revision_id), suites=form.suites(), actor=request.user)
            return redirect("console:job", job.pk)
    return redirect("console:revision", revision_id)
