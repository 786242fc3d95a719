"""Revisions: who writes, submits, decides and retires, and which approvals count."""

from dataclasses import dataclass
from decimal import Decimal

from tests.support.governance.people import People, Person, Refused

# Vectors by name: the α each was evaluated at, and whether its gates passed.
VECTORS = {"warm": (Decimal("0.5"), True), "brisk": (Decimal("0.4"), True), "cruel": (Decimal("0.5"), False)}
# How many people must approve a profile's revisions.
PROFILES = {"gentle": 1, "grave": 2}


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


@dataclass(frozen=True)
class Decision:
    """What somebody said of which submission."""

    profile: str
    number: int
    submission: int | None
    reviewer: Person
    verdict: str


class Revisions(People):
    def __init__(self) -> None:
        super().__init__()
        self.revisions: list[Revision] = []
        self.decisions: list[Decision] = []

    def draft(self, actor: Person, profile: str, vector: str, alpha: Decimal, alpha_max: Decimal) -> Revision:
        self.need(actor, "author")
        number = 1 + sum(revision.profile == profile for revision in self.revisions)
        revision = Revision(profile, number, actor, vector, alpha, alpha_max)
        self.revisions.append(revision)
        return revision

    def edit(self, actor: Person, revision: Revision, vector: str, alpha: Decimal, alpha_max: Decimal) -> None:
        self.need(actor, "author")
        self._own(actor, revision)
        self._in_state(revision, "draft", "submitted")
        revision.vector, revision.alpha, revision.alpha_max, revision.state = vector, alpha, alpha_max, "draft"

    def submit(self, actor: Person, revision: Revision) -> None:
        self.need(actor, "author")
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
        self._look(actor, revision, read)
        if not self.still_may(revision.author, "author"):
            raise Refused("AUTHOR_LEFT")
        self._decide(actor, revision, read, "approve")
        if len(self.in_favour(revision)) >= PROFILES[revision.profile]:
            revision.state = "approved"

    def reject(self, actor: Person, revision: Revision, read: int | None) -> None:
        self._look(actor, revision, read)
        self._decide(actor, revision, read, "reject")
        revision.state = "rejected"

    def request_changes(self, actor: Person, revision: Revision, read: int | None) -> None:
        self._look(actor, revision, read)
        self._decide(actor, revision, read, "request_changes")
        revision.state = "draft"

    def retire(self, actor: Person, revision: Revision) -> None:
        self.need(actor, "approver", "operator")
        self._in_state(revision, "approved")
        revision.state = "retired"

    def in_favour(self, revision: Revision) -> set[str]:
        """The people who approve what is submitted, and still may."""
        of_this = (revision.profile, revision.number, revision.submission)
        return {
            each.reviewer.human
            for each in self.decisions
            if (each.profile, each.number, each.submission) == of_this
            and each.verdict == "approve"
            and self.still_may(each.reviewer, "approver")
        }

    def _look(self, actor: Person, revision: Revision, read: int | None) -> None:
        """`read` is the submission that the reviewer looked at; None for digests out of thin air."""
        self.need(actor, "approver")
        if actor.human == revision.author.human:
            raise Refused("SELF_APPROVAL")
        of_this = (revision.profile, revision.number, read, actor.human)
        if of_this in {(each.profile, each.number, each.submission, each.reviewer.human) for each in self.decisions}:
            raise Refused("ALREADY_DECIDED")
        self._in_state(revision, "draft", "submitted")
        if revision.state == "draft" or read != revision.submission:
            raise Refused("DIGEST_MISMATCH")

    def _decide(self, actor: Person, revision: Revision, read: int | None, verdict: str) -> None:
        self.decisions.append(Decision(revision.profile, revision.number, read, actor, verdict))

    def _own(self, actor: Person, revision: Revision) -> None:
        if actor.human != revision.author.human:
            raise Refused("NOT_THE_AUTHOR")

    def _in_state(self, revision: Revision, *states: str) -> None:
        if revision.state not in states:
            raise Refused("REVISION_STATE")
