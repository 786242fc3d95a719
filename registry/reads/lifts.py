"""Whether a kill may be lifted by one more person: what became of the request."""

from enum import StrEnum

from django.utils import timezone

from registry.models import MAY_KILL, Kill, KillKind
from registry.reads.departures import still_may


class LiftStanding(StrEnum):
    """Only what is pending can be confirmed. The others are as if nobody had asked."""

    NOT_REQUESTED = "not_requested"
    PENDING = "pending"
    EXPIRED = "expired"
    AUTHOR_LEFT = "author_left"
    LIFTED = "lifted"


def lift_standing(kill: Kill) -> LiftStanding:
    if kill.lifted_at is not None:
        return LiftStanding.LIFTED
    if kill.lift_requested_by is None or kill.lift_expires_at is None:
        return LiftStanding.NOT_REQUESTED
    if kill.lift_expires_at <= timezone.now():
        return LiftStanding.EXPIRED
    may = still_may(kill.lift_requested_by, *MAY_KILL, tenant=kill.tenant if kill.kind == KillKind.TENANT else None)
    return LiftStanding.PENDING if may else LiftStanding.AUTHOR_LEFT
