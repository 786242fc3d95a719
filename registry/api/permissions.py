"""What a person may do is a matter of roles. Each view says beside its methods which role each one takes."""

from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from registry.models import User
from registry.reads.visibility import is_limited


def person_of(request: Request) -> User:
    """Who asks. Raises: NotAuthenticated; a view that asks for IsAuthenticated first is never told so here."""
    if not isinstance(request.user, User):
        raise NotAuthenticated
    return request.user


class HoldsRole(BasePermission):
    """The caller holds one of the roles that the view's `roles` gives for the method.

    Reading needs no role unless the view names one. A change without a declared role is refused, so that a forgotten line
    closes an address rather than opening it. Administrators hold no role but their own.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not _has_method(view, request):
            return True
        needed = getattr(view, "roles", {}).get(_method_of(request))
        if needed is None:
            return request.method in SAFE_METHODS
        require_role(request, *needed)
        return True


def require_role(request: Request, *roles: str) -> None:
    """Raises: PermissionDenied naming the roles that would do."""
    person = person_of(request)
    if not person.has_role(*roles):
        raise PermissionDenied(f"this takes the role {' or '.join(roles)}; {person.get_username()} does not hold it")


class MayReachTenants(BasePermission):
    """A caller limited to some tenants is let in where the view says, in `limited`, that it shows and changes nothing of others.

    A view that says nothing is closed to such callers, so that a forgotten line hides rather than shows.
    """

    message = "this reaches beyond the tenants that the caller is limited to"

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not is_limited(person_of(request)) or not _has_method(view, request):
            return True
        return _method_of(request) in getattr(view, "limited", ())


def _has_method(view: APIView, request: Request) -> bool:
    """Without it there is nothing to permit: the answer is 405, whoever asks."""
    return hasattr(view, str(request.method).lower())


def _method_of(request: Request) -> str:
    """HEAD is GET without its body, and runs the same code."""
    return "GET" if request.method == "HEAD" else str(request.method)
