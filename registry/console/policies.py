"""Risk policies: what each risk class demands, what is under it."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect

from registry.console.forms.policies import NewPolicyForm, PolicyForm
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.models import ProfileRevision, RevisionState, RiskPolicy, Role
from registry.reads.documents import UNSAID, policy_document
from registry.services.policies import change_policy, create_policy

GOVERNS_POLICIES = (Role.ADMIN, Role.APPROVER)


@page()
def show_policy(request: Request, name: str) -> HttpResponse:
    policy = get_object_or_404(RiskPolicy.objects.select_related("changed_by"), name=name)
    return _show(request, policy, PolicyForm(initial=_as_typed(policy)))


@action(*GOVERNS_POLICIES)
def change(request: Request, name: str) -> HttpResponse:
    policy = get_object_or_404(RiskPolicy, name=name)
    form = PolicyForm(request.POST)
    if accept(request, form):
        with telling(request, "Changed. The log has what held before."):
            change_policy(name, terms=form.terms(), reason=form.cleaned_data["reason"], actor=request.user)
            return redirect("console:policy", name)
    return _show(request, policy, form)


@page(*GOVERNS_POLICIES)
def new_policy(request: Request) -> HttpResponse:
    low = RiskPolicy.objects.order_by("name").first()
    return _ask(request, NewPolicyForm(initial=_as_typed(low) if low else None))


@action(*GOVERNS_POLICIES)
def make_policy(request: Request) -> HttpResponse:
    form = NewPolicyForm(request.POST)
    if accept(request, form):
        with telling(request, "Declared. Profiles may name it as their risk class."):
            policy = create_policy(form.cleaned_data["name"], terms=form.terms(), reason=form.cleaned_data["reason"], actor=request.user)
            return redirect("console:policy", policy.name)
    return _ask(request, form)


def _show(request: Request, policy: RiskPolicy, form: PolicyForm) -> HttpResponse:
    under_it = ProfileRevision.objects.filter(profile__risk_class=policy).select_related("profile", "author")
    return render_page(
        request,
        "console/policy.html",
        title=f"Risk policy {policy.name}",
        policy=policy,
        form=form,
        may_change=request.user.has_role(*GOVERNS_POLICIES),
        profiles=policy.profiles.order_by("name")[:100],
        waiting=under_it.filter(state=RevisionState.SUBMITTED).order_by("submitted_at")[:100],
        approved=under_it.filter(state=RevisionState.APPROVED).order_by("review_due_at")[:100],
    )


def _ask(request: Request, form: NewPolicyForm) -> HttpResponse:
    lead = "A risk class limits what its profiles may do and demands what must be shown and who must agree before they do it."
    return render_page(
        request, "console/form.html", title="New risk policy", form=form, action_view="console:create-policy", submit="Declare", lead=lead
    )


def _as_typed(policy: RiskPolicy) -> dict[str, Any]:
    document = policy_document(policy)
    caps = {f"alpha_cap_{unit}": cap for unit, cap in document.pop("alpha_caps").items()}
    return {**UNSAID, **document, **caps, "locales": ", ".join(policy.locales)}
