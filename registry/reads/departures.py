"""Who may still do what they began. What is pending counts only while its author may: people leave, and lose roles and tenants."""

from registry.models import Tenant, User
from registry.reads.visibility import is_limited


def still_may(user: User, *roles: str, tenant: Tenant | None = None) -> bool:
    """Whether a user holds one of these roles now, for this tenant, or for all of them.

    A service account counts as its person, so it goes with them. What its token was narrowed to is no matter here: it asked then.
    """
    if not user.is_active or (user.acts_for is not None and not user.acts_for.is_active) or not user.has_role(*roles):
        return False
    return not is_limited(user) or (tenant is not None and tenant.pk in (user.visible_tenants or ()))
