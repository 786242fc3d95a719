"""Revisions and the people who decide on them, who come and go."""

from collections import Counter
from decimal import Decimal
from typing import Any

from registry.models import Approval, ProfileRevision
from registry.reads.departures import with_departures
from tests.support.governance.people import CAST, Person
from tests.support.governance.revisions import PROFILES, VECTORS, Decision, Revision
from tests.support.walks.base import FORGED, Walk, choices, mostly, people, write_range
from tests.support.walks.walking import either, invariant, one_of, precondition, rule, whole

# Whoever wrote the revision, as often as anybody else.
author_or_anybody = either(one_of(None), people)
vectors = one_of(*sorted(VECTORS))
# What an author may write: the evaluated α, one that nobody evaluated, and a range that reaches beyond the evidence.
manners = one_of("honest", "honest", "honest", "unseen", "unseen", "greedy")
verdicts = one_of("approve", "approve", "approve", "reject", "request-changes")
NOT_THEIRS = ("state", "status", "approved_by", "author", "approvals_needed", "digest", "tenant")
# More than these away, and nothing would happen any more.
MOST_AWAY = 2


class RevisionWalk(Walk):
    def __init__(self) -> None:
        super().__init__()
        # What reviewers could have read of each revision: the digests of each submission.
        self.read: dict[tuple[str, int], dict[int, dict[str, str]]] = {}

    @rule(actor=mostly("author"), profile=one_of(*sorted(PROFILES)), vector=vectors, manner=manners)
    def draft(self, actor: Person, profile: str, vector: str, manner: str) -> None:
        chosen, most = write_range(vector, manner)
        self.compare(
            lambda: self.oracle.draft(actor, profile, vector, Decimal(chosen), Decimal(most)),
            lambda: self.send(actor, "post", f"profiles/{profile}/revisions", self.content(vector, chosen, most)),
        )

    @precondition(lambda self: self.oracle.revisions)
    @rule(actor=author_or_anybody, choice=choices, vector=vectors, manner=manners)
    def edit(self, actor: Person | None, choice: int, vector: str, manner: str) -> None:
        revision = self.pick(choice)
        actor, (chosen, most) = actor or revision.author, write_range(vector, manner)
        self.compare(
            lambda: self.oracle.edit(actor, revision, vector, Decimal(chosen), Decimal(most)),
            lambda: self.put_revision(actor, revision, self.content(vector, chosen, most)),
        )

    @precondition(lambda self: self.oracle.revisions)
    @rule(actor=author_or_anybody, choice=choices)
    def submit(self, actor: Person | None, choice: int) -> None:
        revision = self.pick(choice)
        actor = actor or revision.author
        self.compare(
            lambda: self.oracle.submit(actor, revision),
            lambda: self.send(actor, "post", f"{self.address(revision)}/submit", {"evaluation": self.evaluations[revision.vector]}),
        )
        row = self.row(revision)
        if row.digest:
            digests = {"revision_digest": row.digest, "evidence_digest": row.evaluation.digest}
            self.read.setdefault((revision.profile, revision.number), {})[revision.submission] = digests

    @precondition(lambda self: self.oracle.revisions)
    @rule(actor=mostly("approver"), choice=choices, read=whole(8), verdict=verdicts)
    def decide(self, actor: Person, choice: int, read: int, verdict: str) -> None:
        revision = self.pick(choice)
        forged = {"revision_digest": FORGED, "evidence_digest": FORGED}
        could_read = [*reversed(self.read.get((revision.profile, revision.number), {}).items()), (None, forged)]
        submission, digests = could_read[read if read < len(could_read) else 0]
        foretell = getattr(self.oracle, verdict.replace("-", "_"))
        self.compare(
            lambda: foretell(actor, revision, submission),
            lambda: self.send(actor, "post", f"{self.address(revision)}/{verdict}", {**digests, "comment": "as read"}),
        )
        self.met["approved, and one who approved has left"] += verdict == "approve" and any(
            each.verdict == "approve" and each.reviewer.human not in self.oracle.in_favour(revision) for each in self.decided_on(revision)
        )

    @precondition(lambda self: self.oracle.revisions)
    @rule(actor=people, choice=choices)
    def retire(self, actor: Person, choice: int) -> None:
        revision = self.pick(choice)
        self.compare(
            lambda: self.oracle.retire(actor, revision),
            lambda: self.send(actor, "post", f"{self.address(revision)}/retire", {"reason": "enough"}),
        )

    @precondition(lambda self: self.oracle.revisions)
    @rule(actor=people, choice=choices, field=one_of(*NOT_THEIRS))
    def assign_what_is_not_theirs(self, actor: Person, choice: int, field: str) -> None:
        revision = self.pick(choice)
        body = {**self.content(revision.vector, "0.4", "0.4"), field: "approved"}
        answer = self.put_revision(actor, revision, body)
        assert answer.status_code in (400, 401, 403), answer.content

    @rule(actor=mostly("admin"), whom=people, matters=one_of(True, True, False), how=one_of("leaves", "loses every role"))
    def come_or_go(self, actor: Person, whom: Person, matters: bool, how: str) -> None:
        """Whoever is away comes back before a third one goes. One time in two it is somebody on whom something that is pending rests."""
        away, pending = self.oracle.changed, self.find_awaited(authors=how == "leaves") if matters else []
        whom = next((person for person in pending if person not in away), whom)
        if len(away) >= MOST_AWAY or whom in away:
            whom = whom if whom in away else away[0]
            roles, stays = whom.roles, True
        else:
            roles, stays = (whom.roles, False) if how == "leaves" else (frozenset[str](), True)
        self.compare(
            lambda: self.oracle.change_access(actor, whom, roles, stays=stays),
            lambda: self.send(actor, "put", f"users/{whom.name}", {"roles": sorted(roles), "tenants": None, "is_active": stays}),
        )
        self.met["came or went"] += len(away) != len(self.oracle.changed)
        recent = enumerate(self.oracle.revisions[-4:])
        waiting = [(place, each) for place, each in recent if each.state == "submitted"]
        theirs = [place for place, each in waiting if whom in (each.author, *(said.reviewer for said in self.decided_on(each)))]
        if theirs and whom in self.oracle.changed:
            self.decide(CAST["bob" if whom.name == "mary" else "mary"], theirs[0], 0, "approve")

    @invariant()
    def every_revision_is_in_the_state_foretold(self) -> None:
        rows = ProfileRevision.objects.values_list("profile__name", "number", "state")
        assert set(rows) == {(revision.profile, revision.number, revision.state) for revision in self.oracle.revisions}

    @invariant()
    def every_decision_stays_and_shows_who_left(self) -> None:
        rows = with_departures(Approval.objects.all()).values_list("reviewer__username", "decision", "reviewer_left")
        foretold = [
            (each.reviewer.name, each.verdict, not self.oracle.still_may(each.reviewer, "approver")) for each in self.oracle.decisions
        ]
        assert Counter(rows) == Counter(foretold)

    def find_awaited(self, *, authors: bool) -> list[Person]:
        submitted = [revision for revision in reversed(self.oracle.revisions) if revision.state == "submitted"]
        reviewers = [each.reviewer for revision in submitted for each in self.decided_on(revision)]
        askers = [kill.lift.asked_by for kill in self.oracle.kills_in_force if kill.lift]
        return [revision.author for revision in submitted] if authors else [*askers, *reviewers]

    def decided_on(self, revision: Revision) -> list[Decision]:
        of_this = (revision.profile, revision.number, revision.submission)
        return [each for each in self.oracle.decisions if (each.profile, each.number, each.submission) == of_this]

    def put_revision(self, actor: Person, revision: Revision, body: dict[str, Any]) -> Any:
        """As whoever has just read it."""
        reader = self.clients[actor.name]
        etag = reader.get(f"/api/v1/{self.address(revision)}").headers.get("ETag", '"none"')
        return self.send(actor, "put", self.address(revision), body, HTTP_IF_MATCH=etag)

    def pick(self, choice: int) -> Revision:
        """One of the last four: what was only just written has most of its life before it."""
        recent = self.oracle.revisions[-4:]
        return recent[choice % len(recent)]

    def row(self, revision: Revision) -> ProfileRevision:
        return ProfileRevision.objects.select_related("evaluation").get(profile__name=revision.profile, number=revision.number)

    def address(self, revision: Revision) -> str:
        return f"profiles/{revision.profile}/revisions/{revision.number}"

    def content(self, vector: str, alpha: str, alpha_max: str) -> dict[str, Any]:
        return {"components": [{"vector": vector, "alpha": alpha, "alpha_min": "0", "alpha_max": alpha_max, "unit": "mean_difference"}]}
