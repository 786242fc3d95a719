"""What became of a kill: on which nodes it is in force, by their own reports, and which have not said so yet."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Q, Subquery
from django.utils import timezone

from registry.audit import Action
from registry.audit.history import details_of
from registry.models import AuditEvent, Kill, ServingNode, StopStatement
from registry.reads.fleet import SILENT_AFTER, name_some

_NEWEST = Subquery(StopStatement.objects.order_by("-sequence").values("sequence")[:1])


@dataclass(frozen=True, slots=True)
class Obedience:
    """Of the nodes that a kill reaches and that count, how many have said that they obey it.

    A node obeys a kill if the newest stop that it holds is a statement on record that lists it: the one that the event of the kill names,
    or a later one. `waiting` are the others. `silent` are all that have said nothing lately: of these their last word is told.
    `withdrawn` are nodes that were withdrawn since the kill and never said that they obey it; they are given nothing more.
    """

    nodes: int
    of: int
    waiting: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = f"in force on {self.nodes} of {self.of} node{'' if self.of == 1 else 's'}" if self.of else "no node is there to obey it"
        if self.waiting:
            said += f"; waiting for {name_some([f'{name} (silent)' if name in self.silent else name for name in self.waiting])}"
        if obeyed := [name for name in self.silent if name not in self.waiting]:
            said += f"; silent since they obeyed: {name_some(obeyed)}"
        if self.withdrawn:
            said += f"; withdrawn before they said so: {name_some(self.withdrawn)}"
        return said


class _Node(NamedTuple):
    name: str
    # Of the statement that it holds; below all others if that is none on record.
    sequence: int
    surplus: frozenset[str]
    is_silent: bool

    def obeys(self, kill: Kill, sequence: int) -> bool:
        return self.sequence >= sequence or kill.pk.hex in self.surplus


def read_obedience(kills: Sequence[Kill]) -> dict[UUID, Obedience]:
    """What became of each of these kills that is in force, by its id: three queries, whatever their number and that of the nodes."""
    kills = [kill for kill in kills if kill.lifted_at is None]
    if not kills:
        return {}
    earliest = min(kill.engaged_at for kill in kills)
    rows = list(
        ServingNode.objects.filter(Q(is_active=True, enrolled_at__isnull=False) | Q(withdrawn_at__gte=earliest))
        .select_related("environment")
        .order_by("name")
    )
    held = StopStatement.objects.filter(Q(digest__in={row.stop_digest for row in rows}) | Q(sequence=_NEWEST))
    sequences: dict[str, int] = dict(held.order_by().values_list("digest", "sequence"))
    needed = _read_needed(kills, newest=max(sequences.values(), default=0))
    top, now = max(needed.values()), timezone.now()
    # By the environment, and under '' all: a kill of one environment, and one of every environment, looks at one of these.
    serving, behind, silent = defaultdict[str, int](int), defaultdict[str, list[_Node]](list), defaultdict[str, list[str]](list)
    for row in rows:
        is_silent = row.last_seen_at is None or now - row.last_seen_at > SILENT_AFTER
        node = _Node(row.name, sequences.get(row.stop_digest, -1), frozenset(row.stop_surplus), is_silent)
        for place in ("", row.environment.name) if row.is_active else ():
            serving[place] += 1
            behind[place] += [node] if node.sequence < top else []
            silent[place] += [node.name] if is_silent else []

    def judge(kill: Kill) -> Obedience:
        place, sequence = kill.environment_name, needed[kill.pk]
        waiting = tuple(node.name for node in behind[place] if not node.obeys(kill, sequence))
        gone = (row for row in rows if row.withdrawn_at is not None and row.withdrawn_at >= kill.engaged_at)
        withdrawn = tuple(row.name for row in gone if place in ("", row.environment.name) and sequences.get(row.stop_digest, -1) < sequence)
        return Obedience(serving[place] - len(waiting), serving[place], waiting, tuple(silent[place]), withdrawn)

    return {kill.pk: judge(kill) for kill in kills}


def with_obedience(kills: Iterable[Kill]) -> list[tuple[Kill, Obedience]]:
    """These kills in force, each with what became of it."""
    kills = list(kills)
    found = read_obedience(kills)
    return [(kill, found[kill.pk]) for kill in kills]


def _read_needed(kills: Sequence[Kill], *, newest: int) -> dict[UUID, int]:
    """The sequence of the first statement that lists each kill, as its event names it; of a kill from before statements, the newest."""
    events = AuditEvent.objects.filter(
        object_type=Kill._meta.model_name,
        object_id__in=[str(kill.pk) for kill in kills],
        action__in=[Action.KILL_ENGAGED, Action.KILL_ADOPTED],
    )
    named: dict[str, Any] = {event.object_id: details_of(event).get("stop_sequence") for event in events.order_by("seq")}
    return {kill.pk: named.get(str(kill.pk)) or newest for kill in kills}
