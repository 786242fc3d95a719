"""Where each serving node stands against the snapshot of its environment."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import QuerySet
from django.utils import timezone

from registry.models import Environment, ReportResult, ServingNode
from registry.reads.clocks import say_off

# A node in step says so every 30 seconds; after two missed words it is silent.
SILENT_AFTER = timedelta(seconds=75)
_NAMED = 5


class Standing(NamedTuple):
    """A node and where it stands now, by `convergence_of`."""

    node: ServingNode
    state: str

    @property
    def counts(self) -> bool:
        """Whether it serves: it has enrolled and is not withdrawn."""
        return self.node.is_active and self.node.enrolled_at is not None

    @property
    def clock(self) -> str:
        """In words, by how much its clock is off; empty where it is not."""
        return say_off(self.node)


@dataclass(frozen=True, slots=True)
class Standings:
    """The nodes that serve one environment: those that have enrolled and are not withdrawn."""

    nodes: tuple[Standing, ...] = ()

    @property
    def others(self) -> list[Standing]:
        """Those out of step."""
        return [standing for standing in self.nodes if standing.state != "SYNCED"]

    @property
    def in_step(self) -> int:
        return len(self.nodes) - len(self.others)


def standings(environments: Iterable[Environment]) -> dict[str, Standings]:
    """Who is in step in each of these environments, by its name, in one query."""
    environments = list(environments)
    judged = judge_nodes(ServingNode.objects.filter(environment__in=environments, is_active=True, enrolled_at__isnull=False))
    return {each.name: Standings(tuple(standing for standing in judged if standing.node.environment == each)) for each in environments}


def judge_nodes(nodes: QuerySet[ServingNode]) -> list[Standing]:
    """These nodes as they stand now, by environment and name."""
    now = timezone.now()
    rows = nodes.select_related("environment").order_by("environment__name", "name")
    return [Standing(node, convergence_of(node, now)) for node in rows]


def name_some(names: Sequence[str]) -> str:
    """The first of them, and how many more there are: a fleet is no sentence."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def describe_stop(node: ServingNode) -> dict[str, Any] | None:
    """The stop statement that it last said it holds; None if it never told of one."""
    if node.stop_sequence is None:
        return None
    return {"sequence": node.stop_sequence, "digest": node.stop_digest, "held": node.stop_held, "surplus": node.stop_surplus}


def convergence_of(node: ServingNode, now: datetime) -> str:
    """Where a node stands, judged as it is read: its own last word would call a dead node healthy for ever.

    WITHDRAWN; NEVER (said nothing, or never applied anything); SILENT; MISMATCH (what is in force there was never published, or with other
    content); NACKED; SYNCED; or BEHIND (an older revision, or stale by its own word).
    """
    if not node.is_active:
        return "WITHDRAWN"
    if node.last_seen_at is None:
        return "NEVER"
    if now - node.last_seen_at > SILENT_AFTER:
        return "SILENT"
    if node.is_mismatched:
        return "MISMATCH"
    if node.last_result == ReportResult.NACK:
        return "NACKED"
    if node.applied_revision is None:
        return "NEVER"
    in_step = node.applied_revision == node.environment.head_revision and node.last_result != ReportResult.STALE
    return "SYNCED" if in_step else "BEHIND"
