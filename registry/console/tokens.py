"""One's own API tokens: what each may do, when it was last used, and the button that takes it away."""

from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import redirect

from registry.console.forms.tokens import TokenForm
from registry.console.pages import Request, accept, action, page, render_page, telling
from registry.models import ApiToken, Role
from registry.services.people import issue_token, revoke_token


@page(limited=True)
def show_tokens(request: Request) -> HttpResponse:
    return _show(request)


@action(*Role, limited=True)
def issue(request: Request) -> HttpResponse:
    """Issue a token. Its secret is on this answer and nowhere else, so there is no redirect."""
    form = TokenForm(request.POST, seen_by=request.user)
    secret = ""
    if accept(request, form):
        with telling(request, "Issued."):
            _, secret = issue_token(request.user, actor=request.user, **form.cleaned_data)
    return _show(request, secret=secret)


@action(*Role, limited=True)
def revoke(request: Request, token_id: UUID) -> HttpResponse:
    """Another person's token is none of these, so there is nothing to revoke."""
    token = ApiToken.objects.filter(user=request.user, pk=token_id).first()
    if token is not None:
        with telling(request, f"Revoked {token.prefix}…, from the next request on."):
            revoke_token(token, actor=request.user)
    return redirect("console:tokens")


def _show(request: Request, secret: str = "") -> HttpResponse:
    own = ApiToken.objects.filter(user=request.user).select_related("tenant")
    return render_page(
        request,
        "console/tokens.html",
        title="Your tokens",
        tokens=own.filter(revoked_at__isnull=True),
        revoked=own.filter(revoked_at__isnull=False)[:20],
        form=TokenForm(seen_by=request.user),
        secret=secret,
        may_issue=bool(request.user.held_roles()),
    )
