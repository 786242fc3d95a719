"""Who may still do what they began. What is pending counts only while its author may: people leave, and lose roles and tenants.

What was complete stays as it was decided, and shows who left since.
"""

from dataclasses import dataclass

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from registry.models import Approval, Decision, Kill, ProfileRevision, RevisionState, Role, Tenant, User, Waiver
from registry.reads.visibility import is_limited


def still_may(user: User, *roles: str, tenant: Tenant | None = None) -> bool:
    """Whether a user holds one of these roles now, for this tenant, or for all of them.

    A service account counts as its person, so it goes with them. What its token was narrowed to is no matter here: it asked then.
    """
    if not user.is_active or (user.acts_for is not None and not user.acts_for.is_active) or not user.has_role(*roles):
        return False
    return not is_limited(user) or (tenant is not None and tenant.pk in (user.visible_tenants or ()))


def people_who_still_may(*roles: str) -> QuerySet[User]:
    """The same of everybody, for all tenants."""
    unlimited = Q(acts_for__isnull=True) | Q(acts_for__is_active=True, acts_for__is_limited_to_tenants=False)
    return User.objects.filter(unlimited, is_active=True, is_limited_to_tenants=False, groups__name__in=roles)


def with_departures(approvals: QuerySet[Approval]) -> QuerySet[Approval]:
    """Each with `reviewer_left`: whether whoever decided could not decide so today."""
    return approvals.annotate(reviewer_left=~Exists(people_who_still_may(Role.APPROVER).filter(pk=OuterRef("reviewer"))))


@dataclass(frozen=True)
class StandsBehind:
    """What rests on one account: what counts no more once it may no more, and what stays and is marked."""

    approved: list[ProfileRevision]
    pending_approvals: list[ProfileRevision]
    submitted: list[ProfileRevision]
    lifts: list[Kill]
    waivers: list[Waiver]


def stands_behind(user: User) -> StandsBehind:
    """What an administrator should know of before taking an account's roles away. Waivers that it asked for or confirmed, until they end:
    nothing new is submitted or approved on them then."""
    revisions = ProfileRevision.objects.select_related("profile").order_by("profile__name", "number")
    waivers = Waiver.objects.filter(Q(asked_by=user) | Q(confirmed_by=user), withdrawn_at__isnull=True, ends_at__gt=Now())
    given = revisions.filter(approvals__reviewer=user, approvals__decision=Decision.APPROVE, approvals__revision_digest=F("digest"))
    return StandsBehind(
        approved=list(given.filter(state=RevisionState.APPROVED)),
        pending_approvals=list(given.filter(state=RevisionState.SUBMITTED)),
        submitted=list(revisions.filter(state=RevisionState.SUBMITTED, author=user)),
        lifts=list(Kill.objects.filter(lifted_at__isnull=True, lift_requested_by=user).select_related("profile", "tenant", "environment")),
        waivers=list(waivers.select_related("evaluation__vector", "evaluation__revision__profile")),
    )
