"""What nodes say of themselves that a hub must rise above, or answer: it knows no more of the time before it was restored."""

from uuid import UUID

from django.db.models import Max, QuerySet

from registry.models import Environment, ServingNode

# Nobody's clock is further than this, in milliseconds; a node that reports more must not use up the numbers that are left. Half of what
# a report may say, so that whatever comes above this can be reported in turn by the nodes that do not lie.
MOST_BELIEVED = 2**52


def highest_stop_reported() -> int:
    """The highest sequence of a stop statement that a node says it has heard; 0 for none."""
    return _highest("stop_sequence", ServingNode.objects.all())


def surplus_reported(*, holding: str | None = None) -> list[UUID]:
    """The kills that nodes say they obey though the newest statement that they heard does not list them.

    With `holding` of those nodes alone whose newest is the statement of this digest.
    """
    nodes = ServingNode.objects.filter(is_active=True).exclude(stop_surplus=[])
    if holding is not None:
        nodes = nodes.filter(stop_digest=holding)
    return [UUID(key) for surplus in nodes.values_list("stop_surplus", flat=True) for key in surplus]


def highest_revision_reported(environment: Environment) -> int:
    """The highest snapshot revision that a node of the environment says it has accepted, or heard of; 0 for none."""
    nodes = ServingNode.objects.filter(environment=environment)
    return max(_highest("applied_revision", nodes), _highest("highest_revision", nodes))


def _highest(column: str, nodes: QuerySet[ServingNode]) -> int:
    believed = nodes.filter(is_active=True, **{f"{column}__lt": MOST_BELIEVED})
    return believed.aggregate(highest=Max(column))["highest"] or 0
