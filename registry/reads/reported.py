"""What nodes say of themselves that a hub must rise above, or answer: it knows no more of the time before it was restored."""

from uuid import UUID

from django.db.models import Max

from registry.models import Environment, ServingNode

# Nobody's clock is further than this, in milliseconds; a node that reports more must not use up the numbers that are left.
MOST_BELIEVED = 2**53


def highest_stop_reported() -> int:
    """The highest sequence of a stop statement that a node says it has heard; 0 for none."""
    return 0


def surplus_reported() -> list[UUID]:
    """The kills that nodes say they obey though the newest statement that they heard does not list them."""
    return []


def highest_revision_reported(environment: Environment) -> int:
    """The highest snapshot revision that a node of the environment says it has accepted; 0 for none."""
    nodes = ServingNode.objects.filter(environment=environment, is_active=True, applied_revision__lt=MOST_BELIEVED)
    return nodes.aggregate(highest=Max("applied_revision"))["highest"] or 0
