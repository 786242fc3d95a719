"""Which kills a node obeys: decided here from verified statements alone, without a file, a socket or a clock.

Adding needs no order: a kill in any statement that a trusted key signed is obeyed, old or new. Letting go does: only a statement of the
hub with a sequence above the highest ever heard lets go, and only of what it names as released. So no kill that a node has seen ends
without a lift, whatever is restored, replayed or reordered on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from steernode.snapshot.records import Kill
from steernode.stop.document import HUB, StoppedKill, StopStatement


@dataclass(frozen=True, slots=True)
class Held:
    """A kill that is obeyed, and a statement that lists it: the sha256 of its payload, and its issuer.

    Of the hub's it is the newest; an offline stop stays the one that is obeyed until it is released by name, whoever lists its kills.
    """

    kill: StoppedKill
    digest: str
    issuer: str


@dataclass(frozen=True, slots=True)
class HeldStops:
    """What a node has heard. Replaced as a whole, never changed.

    `sequence` and `digest` are of the hub's statement with the highest sequence ever heard; 0 and empty before the first. `listed` are the
    ids in force by it, `adopted` the offline stops that the hub then had on record.
    """

    sequence: int = 0
    digest: str = ""
    held: Mapping[str, Held] = field(default_factory=dict)
    listed: frozenset[str] = frozenset()
    adopted: frozenset[str] = frozenset()

    def hear(self, statement: StopStatement, digest: str) -> HeldStops:
        """After this statement, whose signature by a key of its issuer the caller has checked. `digest` is the sha256 of its payload."""
        if statement.issuer != HUB or statement.sequence <= self.sequence:
            return self.add(statement, digest)
        brought = {kill.id: Held(kill, digest, statement.issuer) for kill in statement.kills}
        # Of what the hub said itself, the newest statement that lists it says it all, so that older ones need not be kept.
        held = {**self.held, **{key: each for key, each in brought.items() if key not in self.held or self.held[key].issuer == HUB}}
        listed = frozenset(brought)
        kept = {key: each for key, each in held.items() if key in listed or not statement.released & {key, each.digest}}
        return HeldStops(statement.sequence, digest, kept, listed, statement.adopted)

    def add(self, statement: StopStatement, digest: str) -> HeldStops:
        """After what this statement stops, whatever else it says."""
        brought = {kill.id: Held(kill, digest, statement.issuer) for kill in statement.kills}
        return replace(self, held=brought | dict(self.held))

    def kills_in(self, environment: str) -> tuple[Kill, ...]:
        """What is killed there, in the words of a snapshot, each once."""
        reaching = {(each.kill.kind, each.kill.target) for each in self.held.values() if each.kill.reaches(environment)}
        return tuple(Kill(kind, target) for kind, target in sorted(reaching))

    @property
    def surplus(self) -> dict[str, Held]:
        """What is obeyed though the hub's newest statement does not list it: the hub has yet to hear of it, or has lost it."""
        return {key: each for key, each in self.held.items() if key not in self.listed}
