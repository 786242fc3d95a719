"""Starting an extraction: what to learn from, what to judge it by."""

from django.http import HttpResponse
from django.shortcuts import redirect

from registry.console.forms.extractions import ExtractionForm
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.models import Role
from registry.services.job_requests import request_extraction


@page(Role.AUTHOR)
def new_extraction(request: Request) -> HttpResponse:
    return _ask(request, ExtractionForm())


@action(Role.AUTHOR)
def start_extraction(request: Request) -> HttpResponse:
    """Queue the job and go to its page; a refused recipe comes back with what was typed."""
    form = ExtractionForm(request.POST)
    if accept(request, form):
        with telling(request):
            data = form.cleaned_data
            job = request_extraction(
                base_model=data["base_model"],
                contrast_set=data["contrast_set"],
                suites=form.suites(),
                recipe=form.recipe(),
                draft_for=data["profile"],
                again=data["again"],
                actor=request.user,
            )
            return redirect("console:job", job.pk)
    return _ask(request, form)


def _ask(request: Request, form: ExtractionForm) -> HttpResponse:
    return render_page(
        request,
        "console/form.html",
        title="New extraction",
        form=form,
        action_view="console:start-extraction",
        submit="Start the extraction",
        lead="The job extracts one direction per layer, sweeps the layers and searches α on the select split. It opens no test item.",
    )
