"""Kills, their lifts, the statements that carry them, and what a node obeys by those it has heard."""

from dataclasses import dataclass, field

from tests.support.governance.flags import Flags
from tests.support.governance.people import Person, Refused

HUB = "hub"
MAY_KILL = ("operator", "approver", "admin")


@dataclass
class Lift:
    """A request for one."""

    asked_by: Person
    is_old: bool = False


@dataclass
class Kill:
    kind: str
    target: str
    # The only one that it reaches; empty for all.
    environment: str
    lift: Lift | None = None
    is_lifted: bool = False
    # Another time, or another hand, wrote it, and nobody told the record yet.
    is_unknown: bool = False

    @property
    def names(self) -> tuple[str, str, str]:
        return self.kind, self.target, self.environment


@dataclass(frozen=True)
class Statement:
    """Kills are told by their place among all kills. `number` says which came later."""

    issuer: str
    number: int
    kills: frozenset[int]
    released: frozenset[int] = frozenset()


@dataclass
class Ears:
    """What one node heard: the highest statement of the hub, every kill that it was ever told of, and those that it obeys."""

    highest: Statement | None = None
    seen: set[int] = field(default_factory=set)
    obeys: set[int] = field(default_factory=set)

    def hear(self, statement: Statement) -> None:
        """Adding needs no order; letting go does, and a name."""
        self.seen |= statement.kills
        self.obeys |= statement.kills
        if statement.issuer == HUB and (self.highest is None or statement.number > self.highest.number):
            self.highest = statement
            self.obeys -= statement.released - statement.kills

    @property
    def surplus(self) -> set[int]:
        """What it obeys beyond the highest that it heard."""
        return self.obeys - (self.highest.kills if self.highest else frozenset())


class Stops(Flags):
    def __init__(self) -> None:
        super().__init__()
        self.kills: list[Kill] = []
        # Every one that anybody signed, and that which the record holds for the newest.
        self.statements: list[Statement] = []
        self.newest: Statement | None = None

    def engage_kill(self, actor: Person, kind: str, target: str, environment: str) -> None:
        """Again is the one in force: no other statement, and whoever asked for its lift asks again."""
        self.need(actor, *MAY_KILL)
        narrowed = target if kind == "environment" else environment
        if narrowed and narrowed not in self.serves:
            raise Refused("KILL_TARGET")
        known = [kill for kill in self.kills_in_force if kill.names == (kind, target, environment)]
        for kill in known:
            kill.lift = None
        if not known:
            self.kills.append(Kill(kind, target, environment))
            self.state()

    def request_lift(self, actor: Person, kill: Kill, reason: str = "enough") -> None:
        self.need(actor, *MAY_KILL)
        if not reason:
            raise Refused("VALIDATION")
        self._need_in_force(kill)
        kill.lift = Lift(actor)

    def withdraw_lift(self, actor: Person, kill: Kill) -> None:
        self.need(actor, *MAY_KILL)
        self._need_in_force(kill)
        if kill.lift is None:
            raise Refused("LIFT_NOT_REQUESTED")
        kill.lift = None

    def confirm_lift(self, actor: Person, kill: Kill) -> None:
        self.need(actor, *MAY_KILL)
        self._need_in_force(kill)
        if kill.lift is None or kill.lift.asked_by.human == actor.human:
            raise Refused("KILL_LIFT_NEEDS_TWO")
        standing = self.lift_standing(kill)
        if standing != "pending":
            raise Refused({"expired": "LIFT_EXPIRED", "author_left": "LIFT_AUTHOR_LEFT"}[standing])
        kill.is_lifted = True
        self.state()

    def lift_standing(self, kill: Kill) -> str:
        if kill.is_lifted:
            return "lifted"
        if kill.lift is None:
            return "not_requested"
        if kill.lift.is_old:
            return "expired"
        return "pending" if self.still_may(kill.lift.asked_by, *MAY_KILL) else "author_left"

    def write_elsewhere(self, issuer: str, kind: str, target: str, environment: str) -> Statement:
        """Offline, or by a hub that then forgot it, because it was restored."""
        self.kills.append(Kill(kind, target, environment, is_unknown=True))
        written = frozenset([len(self.kills) - 1])
        return self._sign(issuer, written | self._places(self.kills_in_force) if issuer == HUB else written)

    def hand_back(self, statement: Statement) -> None:
        """What was lost, or never told, is on record from then on."""
        lost = [self.kills[place] for place in statement.kills if self.kills[place].is_unknown]
        for kill in lost:
            kill.is_unknown = False
        if lost:
            self.state()

    def state(self) -> None:
        self.newest = self._sign(HUB, self._places(self.kills_in_force))

    @property
    def kills_in_force(self) -> list[Kill]:
        return [kill for kill in self.kills if not kill.is_lifted and not kill.is_unknown]

    def _sign(self, issuer: str, kills: frozenset[int]) -> Statement:
        released = self._places([kill for kill in self.kills if kill.is_lifted]) if issuer == HUB else frozenset()
        self.statements.append(Statement(issuer, len(self.statements), kills, released))
        return self.statements[-1]

    def _places(self, kills: list[Kill]) -> frozenset[int]:
        wanted = {id(kill) for kill in kills}
        return frozenset(place for place, kill in enumerate(self.kills) if id(kill) in wanted)

    def _need_in_force(self, kill: Kill) -> None:
        if kill.is_lifted or kill.is_unknown:
            raise Refused("KILL_NOT_FOUND")
