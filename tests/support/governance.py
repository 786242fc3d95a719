"""What governance comes to, in memory: who may do what to which revision, flag and kill, and what a tenant then gets.

An oracle for the registry. It has no database, no locks, no digests and no HTTP; a state is a word in a dictionary.
"""

from dataclasses import dataclass, field
from decimal import Decimal

# Vectors by name: the α each was evaluated at, and whether its gates passed.
VECTORS = {"warm": (Decimal("0.5"), True), "brisk": (Decimal("0.4"), True), "cruel": (Decimal("0.5"), False)}
# How many people must approve a profile's revisions.
PROFILES = {"gentle": 1, "grave": 2}


@dataclass(frozen=True)
class Person:
    """`acts_for` names the person behind a service account."""

    name: str
    roles: frozenset[str]
    acts_for: str = ""

    @property
    def human(self) -> str:
        return self.acts_for or self.name


CAST = {
    person.name: person
    for person in (
        Person("ada", frozenset({"author"})),
        Person("ada-bot", frozenset({"author", "approver"}), acts_for="ada"),
        Person("bob", frozenset({"author", "approver"})),
        Person("grace", frozenset({"approver"})),
        Person("mary", frozenset({"approver"})),
        Person("oscar", frozenset({"operator"})),
        # Knows every address and every digest, and holds no role.
        Person("mallory", frozenset()),
    )
}


@dataclass
class Revision:
    profile: str
    number: int
    author: Person
    vector: str
    alpha: Decimal
    alpha_max: Decimal
    state: str = "draft"
    # Each submission is a state of its own, even if an edit before it was undone.
    submission: int = 0
    # Who decided, and on which submission.
    approvals: set[tuple[str, int]] = field(default_factory=set)
    turned_down: set[tuple[str, int]] = field(default_factory=set)


@dataclass
class Flag:
    revision: Revision
    enabled: bool
    scale: Decimal


@dataclass
class Kill:
    kind: str
    target: str
    lift_requested_by: str = ""
    lifted: bool = False


class Refused(Exception):
    """The code that the registry should answer with."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Governance:
    """The whole record, as far as it decides what steers."""

    def __init__(self) -> None:
        self.revisions: list[Revision] = []
        self.flags: dict[str, Flag] = {}
        self.kills: list[Kill] = []

    # -- Revisions ------------------------------------------------------------------------------------------------------------

    def draft(self, actor: Person, profile: str, vector: str, alpha: Decimal, alpha_max: Decimal) -> Revision:
        self._need(actor, "author")
        number = 1 + sum(revision.profile == profile for revision in self.revisions)
        revision = Revision(profile, number, actor, vector, alpha, alpha_max)
        self.revisions.append(revision)
        return revision

    def edit(self, actor: Person, revision: Revision, vector: str, alpha: Decimal, alpha_max: Decimal) -> None:
        self._need(actor, "author")
        self._own(actor, revision)
        self._in_state(revision, "draft", "submitted")
        revision.vector, revision.alpha, revision.alpha_max, revision.state = vector, alpha, alpha_max, "draft"

    def submit(self, actor: Person, revision: Revision) -> None:
        self._need(actor, "author")
        self._own(actor, revision)
        self._in_state(revision, "draft")
        evaluated, passed = VECTORS[revision.vector]
        if revision.alpha != evaluated:
            raise Refused("EVIDENCE_MISMATCH")
        if revision.alpha_max > evaluated:
            raise Refused("ALPHA_RANGE")
        if not passed:
            raise Refused("GATES_FAILED")
        revision.state = "submitted"
        revision.submission += 1

    def approve(self, actor: Person, revision: Revision, read: int | None) -> None:
        self._decide(actor, revision, read)
        revision.approvals.add((actor.human, revision.submission))
        if sum(submission == revision.submission for _, submission in revision.approvals) >= PROFILES[revision.profile]:
            revision.state = "approved"

    def reject(self, actor: Person, revision: Revision, read: int | None) -> None:
        self._decide(actor, revision, read)
        revision.turned_down.add((actor.human, revision.submission))
        revision.state = "rejected"

    def request_changes(self, actor: Person, revision: Revision, read: int | None) -> None:
        self._decide(actor, revision, read)
        revision.turned_down.add((actor.human, revision.submission))
        revision.state = "draft"

    def retire(self, actor: Person, revision: Revision) -> None:
        self._need(actor, "approver", "operator")
        self._in_state(revision, "approved")
        revision.state = "retired"

    def _decide(self, actor: Person, revision: Revision, read: int | None) -> None:
        """`read` is the submission that the reviewer looked at; None for digests out of thin air."""
        self._need(actor, "approver")
        if actor.human == revision.author.human:
            raise Refused("SELF_APPROVAL")
        if (actor.human, read) in revision.approvals | revision.turned_down:
            raise Refused("ALREADY_DECIDED")
        self._in_state(revision, "draft", "submitted")
        if revision.state == "draft" or read != revision.submission:
            raise Refused("DIGEST_MISMATCH")

    # -- Flags and kills ------------------------------------------------------------------------------------------------------

    def set_flag(self, actor: Person, tenant: str, revision: Revision, *, enabled: bool, scale: Decimal) -> None:
        self._need(actor, "operator")
        # On at a scale of 0 steers nobody, and raising the scale is asked about again.
        if enabled and scale and revision.state != "approved":
            raise Refused("FLAG_NOT_APPROVED")
        if enabled and revision.alpha * scale > revision.alpha_max:
            raise Refused("ALPHA_RANGE")
        self.flags[tenant] = Flag(revision, enabled, scale)

    def engage_kill(self, actor: Person, kind: str, target: str) -> None:
        self._need(actor, "operator", "approver", "admin")
        known = [kill for kill in self.kills_in_force if (kill.kind, kill.target) == (kind, target)]
        for kill in known:
            kill.lift_requested_by = ""
        if not known:
            self.kills.append(Kill(kind, target))

    def request_lift(self, actor: Person, kill: Kill) -> None:
        self._need(actor, "operator", "approver", "admin")
        self._in_force(kill)
        kill.lift_requested_by = actor.human

    def withdraw_lift(self, actor: Person, kill: Kill) -> None:
        self._need(actor, "operator", "approver", "admin")
        self._in_force(kill)
        if not kill.lift_requested_by:
            raise Refused("LIFT_NOT_REQUESTED")
        kill.lift_requested_by = ""

    def confirm_lift(self, actor: Person, kill: Kill) -> None:
        self._need(actor, "operator", "approver", "admin")
        self._in_force(kill)
        if kill.lift_requested_by in ("", actor.human):
            raise Refused("KILL_LIFT_NEEDS_TWO")
        kill.lifted = True

    @property
    def kills_in_force(self) -> list[Kill]:
        return [kill for kill in self.kills if not kill.lifted]

    def effect(self, tenant: str) -> tuple[str, int, Decimal] | None:
        """Profile, revision and α that a request of the tenant gets; None for no steering, which is the default."""
        flag = self.flags.get(tenant)
        if flag is None or not flag.enabled or not flag.scale or flag.revision.state != "approved":
            return None
        reached = {("everything", ""), ("environment", "production"), ("tenant", tenant), ("profile", flag.revision.profile)}
        if any((kill.kind, kill.target) in reached for kill in self.kills_in_force):
            return None
        return flag.revision.profile, flag.revision.number, flag.revision.alpha * flag.scale

    # -- Rules that several share -----------------------------------------------------------------------------------------------

    def _need(self, actor: Person, *roles: str) -> None:
        if not actor.roles & set(roles):
            raise Refused("PERMISSION_DENIED")

    def _own(self, actor: Person, revision: Revision) -> None:
        if actor.human != revision.author.human:
            raise Refused("NOT_THE_AUTHOR")

    def _in_state(self, revision: Revision, *states: str) -> None:
        if revision.state not in states:
            raise Refused("REVISION_STATE")

    def _in_force(self, kill: Kill) -> None:
        if kill.lifted:
            raise Refused("KILL_NOT_FOUND")
