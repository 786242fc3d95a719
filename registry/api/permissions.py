"""What a person may do is a matter of roles. Each view says beside its methods which role each one takes."""

from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from registry.reads.visibility import is_limited


class HoldsRole(BasePermission):
    """The caller holds one of the roles that the view's `roles` gives for the method.

    Reading needs no role unless the view names one. A change without a declared role is refused, so that a forgotten line
    closes an address rather than opening it. Administrators hold no role but their own.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not hasattr(view, request.method.lower()):
            return True  # There is nothing to permit: the answer is 405, whoever asks.
        # HEAD is GET without its body, and runs the same code.
        needed = getattr(view, "roles", {}).get("GET" if request.method == "HEAD" else request.method)
        if needed is None:
            return request.method in SAFE_METHODS
        require_role(request, *needed)
        return True


def require_role(request: Request, *roles: str) -> None:
    """Raises: PermissionDenied naming the roles that would do."""
    if not request.user.has_role(*roles):
        raise PermissionDenied(f"this takes the role {' or '.join(roles)}; {request.user.get_username()} does not hold it")


class MayReachTenants(BasePermission):
    """A caller limited to some tenants is let in where the view says, in `limited`, that it shows and changes nothing of others.

    A view that says nothing is closed to such callers, so that a forgotten line hides rather than shows.
    """

    message = "this reaches beyond the tenants that the caller is limited to"

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not is_limited(request.user) or not hasattr(view, request.method.lower()):
            return True
        method = "GET" if request.method == "HEAD" else request.method
        return method in view.limited
