"""Uploading data sets: sealed whole, or refused with the line that is wrong."""

from django.forms import BaseForm
from django.http import HttpResponse
from django.shortcuts import redirect

from registry.console.forms.uploads import ContrastSetForm, EvalSuiteForm, UploadForm
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.models import Role
from registry.services.contrast import seal_contrast_set
from registry.services.evals import seal_eval_suite
from registry.services.prompts import seal_prompt_set


@page(Role.AUTHOR)
def new_contrast_set(request: Request) -> HttpResponse:
    return _ask_contrast_set(request, ContrastSetForm())


@action(Role.AUTHOR)
def upload_contrast_set(request: Request) -> HttpResponse:
    form = ContrastSetForm(request.POST, request.FILES)
    if accept(request, form):
        data = form.cleaned_data
        with telling(request, "Sealed. It can be used, and never changed."):
            sealed = seal_contrast_set(data["name"], axis=data["axis"], data=data["file"].read(), author=request.user)
            return redirect("admin:registry_contrastset_change", sealed.pk)
    return _ask_contrast_set(request, form)


@page(Role.AUTHOR)
def new_eval_suite(request: Request) -> HttpResponse:
    return _ask_eval_suite(request, EvalSuiteForm())


@action(Role.AUTHOR)
def upload_eval_suite(request: Request) -> HttpResponse:
    form = EvalSuiteForm(request.POST, request.FILES)
    if accept(request, form):
        data = form.cleaned_data
        rubric = data["rubric"].read() if data["rubric"] else None
        with telling(request, "Sealed. It can be used, and never changed."):
            sealed = seal_eval_suite(data["name"], kind=data["kind"], data=data["file"].read(), rubric=rubric, author=request.user)
            return redirect("admin:registry_evalsuite_change", sealed.pk)
    return _ask_eval_suite(request, form)


@page(Role.AUTHOR)
def new_prompt_set(request: Request) -> HttpResponse:
    return _ask_prompt_set(request, UploadForm())


@action(Role.AUTHOR)
def upload_prompt_set(request: Request) -> HttpResponse:
    form = UploadForm(request.POST, request.FILES)
    if accept(request, form):
        data = form.cleaned_data
        with telling(request, "Sealed. It can be used, and never changed."):
            sealed = seal_prompt_set(data["name"], data=data["file"].read(), author=request.user)
            return redirect("admin:registry_promptset_change", sealed.pk)
    return _ask_prompt_set(request, form)


def _ask_contrast_set(request: Request, form: BaseForm) -> HttpResponse:
    return _ask(request, form, "contrast set", "One pair a line (JSONL): id, positive and negative conversation, locale, product.")


def _ask_eval_suite(request: Request, form: BaseForm) -> HttpResponse:
    return _ask(request, form, "eval suite", "One item a line (JSONL): an id, its split, a conversation, and what a right answer shows.")


def _ask_prompt_set(request: Request, form: BaseForm) -> HttpResponse:
    return _ask(request, form, "prompt set", "One prompt a line (JSONL): id, split (train, select, test), conversation and label.")


def _ask(request: Request, form: BaseForm, what: str, lines: str) -> HttpResponse:
    return render_page(
        request,
        "console/form.html",
        title=f"New {what}",
        form=form,
        action_view=f"console:upload-{what.replace(' ', '-')}",
        submit="Seal",
        lead=f"{lines} The same name makes a new version.",
    )
