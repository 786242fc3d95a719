"""Which kills a node obeys: decided here from verified statements alone, without a file, a socket or a clock.

Adding needs no order: a kill in any statement that a trusted key signed is obeyed, old or new. Letting go does: only a statement of the
hub with a sequence above the highest ever heard lets go, and only of what it names as released. So no kill that a node has seen ends
without a lift, whatever is restored, replayed or reordered on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from steernode.snapshot.records import Kill
from steernode.stop.document import HUB, StoppedKill, StopStatement


@dataclass(frozen=True, slots=True)
class Held:
    """A kill that is obeyed, and the statement that it was heard from: the sha256 of its payload, and its issuer."""

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
        held = {kill.id: Held(kill, digest, statement.issuer) for kill in statement.kills} | dict(self.held)
        if statement.issuer != HUB or statement.sequence <= self.sequence:
            return HeldStops(self.sequence, self.digest, held, self.listed, self.adopted)
        listed = frozenset(kill.id for kill in statement.kills)
        kept = {key: each for key, each in held.items() if key in listed or not statement.released & {key, each.digest}}
        return HeldStops(statement.sequence, digest, kept, listed, statement.adopted)

    def kills_in(self, environment: str) -> tuple[Kill, ...]:
        """What is killed there, in the words of a snapshot, each once."""
        reaching = (each.kill for each in self.held.values() if each.kill.reaches(environment))
        return tuple(sorted({Kill(kill.kind, kill.target) for kill in reaching}))

    @property
    def surplus(self) -> dict[str, Held]:
        """What is obeyed though the hub's newest statement does not list it: the hub has yet to hear of it, or has lost it."""
        return {key: each for key, each in self.held.items() if key not in self.listed}
