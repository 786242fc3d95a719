"""Reviews: what was approved steers until its review date and no longer."""

from uuid import UUID

from django.utils import timezone

from registry.audit import Action
from registry.models import Environment, ProfileRevision, RevisionState
from registry.services.invalidation import invalidate_revisions, lock_revisions
from registry.services.transition import lock_environments, publish_at_end, transition

_WHY = "its review is overdue, or a waiver that it rests on ended; look at it again and submit a new revision"


def end_overdue_reviews() -> int:
    """Invalidate what is past its review date. How many revisions. A snapshot compiled meanwhile leaves them out already."""
    due = ProfileRevision.objects.filter(state=RevisionState.APPROVED, review_due_at__lte=timezone.now())
    keys = list(due.values_list("pk", flat=True))
    return _end_reviews(keys) if keys else 0


@transition
def _end_reviews(keys: list[UUID]) -> int:
    """approved -> invalidated."""
    environments = lock_environments(Environment.objects.all())
    # Nobody moves a review date, so what was due before the lock is due under it, unless it was retired.
    overdue = lock_revisions(ProfileRevision.objects.filter(pk__in=keys, state=RevisionState.APPROVED))
    if not overdue:
        return 0
    invalidate_revisions(overdue, reason=_WHY, actor="scheduler")
    for environment in environments:
        publish_at_end(environment, cause=Action.REVISION_INVALIDATED, actor="scheduler")
    return len(overdue)
