"""The life of a node: invited, enrolled, rotated, withdrawn, let in again; and what becomes of what it reports."""

from dataclasses import dataclass, field

from tests.support.governance.people import Person, Refused
from tests.support.governance.stops import Ears, Stops


@dataclass
class Node:
    """Tokens are told by numbers that rise, 0 for none; a key comes with each."""

    name: str
    environment: str
    invitation: int = 0
    token: int = 0
    is_withdrawn: bool = False
    # Where its reports have come to.
    boot: str = ""
    seq: int = 0
    past_boots: set[str] = field(default_factory=set)
    # Its last word: result, the revision in force, whether that was published so; and whether it came long ago.
    word: tuple[str, int | None, bool] | None = None
    is_silent: bool = False
    ears: Ears = field(default_factory=Ears)
    # What it said of the stop, last: the number of the highest statement, and the surplus.
    told: tuple[int, frozenset[int]] = (-1, frozenset())

    @property
    def counts(self) -> bool:
        return self.token > 0 and not self.is_withdrawn


class Fleet(Stops):
    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[str, Node] = {}
        self.given = 0

    def invite(self, actor: Person, name: str, environment: str) -> None:
        self.need(actor, "operator")
        self.need_environment(environment)
        if name in self.nodes:
            raise Refused("NODE_EXISTS")
        self.nodes[name] = Node(name, environment)
        self._give_invitation(name)

    def rotate(self, actor: Person, name: str) -> None:
        self._need_node(actor, name)
        if self.nodes[name].is_withdrawn:
            raise Refused("NODE_WITHDRAWN")
        self._give_invitation(name)

    def reenroll(self, actor: Person, name: str) -> None:
        self._need_node(actor, name)
        if not self.nodes[name].is_withdrawn:
            raise Refused("NODE_ACTIVE")
        self._give_invitation(name)

    def withdraw(self, actor: Person, name: str) -> None:
        self._need_node(actor, name)
        if self.nodes[name].is_withdrawn:
            raise Refused("NODE_WITHDRAWN")
        self.nodes[name].is_withdrawn, self.nodes[name].invitation = True, 0

    def enroll(self, name: str, invitation: int) -> None:
        """Whoever holds the one-time token. What was before it is over, the boot that reported last with it."""
        node = self.nodes.get(name)
        if node is None or not invitation or node.invitation != invitation:
            raise Refused("ENROLMENT_TOKEN")
        self.given += 1
        node.token, node.invitation, node.is_withdrawn = self.given, 0, False
        if node.boot:
            node.past_boots.add(node.boot)
        node.boot, node.seq, node.word = "", 0, None

    def report(self, name: str, key: int, boot: str, seq: int, word: tuple[str, int | None, bool]) -> None:
        node = self.nodes[name]
        if not node.token or key != node.token:
            raise Refused("REPORT_SIGNATURE")
        if node.is_withdrawn:
            raise Refused("NODE_WITHDRAWN")
        if boot in node.past_boots or (boot == node.boot and seq < node.seq):
            raise Refused("REPORT_LATE")
        if (boot, seq) == (node.boot, node.seq):
            raise Refused("REPORT_REPLAYED")
        if boot != node.boot and node.boot:
            node.past_boots.add(node.boot)
        node.boot, node.seq, node.word, node.is_silent = boot, seq, word, False
        node.told = (node.ears.highest.number, frozenset(node.ears.surplus)) if node.ears.highest else (-1, frozenset())

    def convergence(self, node: Node, head: int) -> str:
        if node.is_withdrawn:
            return "WITHDRAWN"
        if node.word is None:
            return "NEVER"
        result, applied, was_published = node.word
        if node.is_silent:
            return "SILENT"
        if applied is not None and not was_published:
            return "MISMATCH"
        if result == "NACK":
            return "NACKED"
        if applied is None:
            return "NEVER"
        return "SYNCED" if applied == head and result != "STALE" else "BEHIND"

    def tend(self) -> None:
        """Another statement, where nodes say that they need one."""
        told = [node.told for node in self.nodes.values() if not node.is_withdrawn]
        newest = self.newest.number if self.newest else -1
        obeyed = {place for highest, surplus in told if highest == newest for place in surplus}
        if newest < 0 or any(highest > newest for highest, _ in told) or any(self.kills[place].is_lifted for place in obeyed):
            self.state()

    def _need_node(self, actor: Person, name: str) -> None:
        self.need(actor, "operator")
        if name not in self.nodes:
            raise Refused("NODE_NOT_FOUND")

    def _give_invitation(self, name: str) -> None:
        self.given += 1
        self.nodes[name].invitation = self.given
