"""Author, approver, operator and attacker do anything in any order; the registry and an in-memory oracle never differ.

What is compared after each step: the answer's code, the state of every revision, what every tenant gets by the signed
snapshot, and that a refusal leaves no event.
"""

import os
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from registry.models import AuditEvent, Environment, ProfileRevision, User
from registry.snapshots import read_head
from steernode.snapshot.records import Snapshot
from steernode.snapshot.resolve import resolve
from tests.support.governance import CAST, PROFILES, VECTORS, Governance, Kill, Person, Refused, Revision

STEPS = int(os.environ.get("STEERHUB_GOVERNANCE_STEPS", "1000"))
STEPS_PER_RUN = 50
ENOUGH_TO_MEET_ALL = 5_000
TENANTS = ("harbor", "atlas")
FORGED = {"revision_digest": "f" * 64, "evidence_digest": "f" * 64}
KILLS = (*[("tenant", "harbor"), ("profile", "gentle")] * 3, ("environment", "production"), ("everything", ""))
REFUSALS = (
    "ALPHA_RANGE",
    "ALREADY_DECIDED",
    "DIGEST_MISMATCH",
    "EVIDENCE_MISMATCH",
    "FLAG_NOT_APPROVED",
    "GATES_FAILED",
    "KILL_LIFT_NEEDS_TWO",
    "KILL_NOT_FOUND",
    "LIFT_NOT_REQUESTED",
    "NOT_THE_AUTHOR",
    "PERMISSION_DENIED",
    "REVISION_STATE",
    "SELF_APPROVAL",
)
NOT_THEIRS = ("state", "status", "approved_by", "author", "approvals_needed", "digest", "tenant")

people = st.sampled_from(sorted(CAST)).map(CAST.__getitem__)


def mostly(role: str) -> st.SearchStrategy[Person]:
    """Somebody who holds the role, three times in four; anybody otherwise."""
    holders = st.sampled_from([person for person in CAST.values() if role in person.roles])
    return st.integers(0, 3).flatmap(lambda draw: holders if draw else people)


# Whoever wrote the revision, as often as anybody else.
author_or_anybody = st.one_of(st.none(), people)
# One of however many there are by then.
choices = st.integers(0, 10**6)
vectors = st.sampled_from(sorted(VECTORS))
# What an author may write: the evaluated α, one that nobody evaluated, and a range that reaches beyond the evidence.
manners = st.sampled_from(["honest", "honest", "honest", "unseen", "greedy"])
scales = st.sampled_from(["0", "0.5", "1", "2"])
tenants = st.sampled_from(TENANTS)
verdicts = st.sampled_from(["approve", "approve", "approve", "reject", "request-changes"])


def write_range(vector: str, manner: str) -> tuple[str, str]:
    """α and the most it may be."""
    evaluated, _ = VECTORS[vector]
    return {
        "honest": (str(evaluated), str(evaluated)),
        "unseen": (str(evaluated / 2), str(evaluated)),
        "greedy": (str(evaluated), str(evaluated + 1)),
    }[manner]


class Registry(RuleBasedStateMachine):
    """Each rule is one request by anybody, foretold by the oracle."""

    clients: dict[str, Any]
    evaluations: dict[str, str]
    # How often each refusal was met, and how often a tenant was steered: a run that never got there would prove nothing.
    met: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.oracle = Governance()
        # What reviewers could have read of each revision: the digests of each submission.
        self.read: dict[tuple[str, int], dict[int, dict[str, str]]] = {}
        self.kill_ids: list[tuple[Kill, str]] = []
        self.snapshot: Snapshot | None = None
        self.world = transaction.atomic()
        # As TestCase marks its own: services insist on a transaction that nothing is around.
        self.world._from_testcase = True
        self.world.__enter__()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.world.__exit__(None, None, None)

    @initialize(on=st.booleans())
    def somebody_is_steered(self, on: bool) -> None:
        """Half of the runs begin where an honest path ends; the others find their own way."""
        if not on:
            return
        ada, grace, oscar = CAST["ada"], CAST["grace"], CAST["oscar"]
        self.draft(ada, "gentle", "warm", "honest")
        self.submit(ada, 0)
        self.decide(grace, 0, 0, "approve")
        self.set_flag(oscar, "harbor", 0, True, "1")

    # -- Revisions ------------------------------------------------------------------------------------------------------------

    @rule(actor=mostly("author"), profile=st.sampled_from(sorted(PROFILES)), vector=vectors, manner=manners)
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
    @rule(actor=mostly("approver"), choice=choices, read=st.integers(0, 8), verdict=verdicts)
    def decide(self, actor: Person, choice: int, read: int, verdict: str) -> None:
        revision = self.pick(choice)
        could_read = [*reversed(self.read.get((revision.profile, revision.number), {}).items()), (None, FORGED)]
        submission, digests = could_read[read if read < len(could_read) else 0]
        foretell = getattr(self.oracle, verdict.replace("-", "_"))
        self.compare(
            lambda: foretell(actor, revision, submission),
            lambda: self.send(actor, "post", f"{self.address(revision)}/{verdict}", {**digests, "comment": "as read"}),
        )

    @precondition(lambda self: self.oracle.revisions)
    @rule(actor=people, choice=choices)
    def retire(self, actor: Person, choice: int) -> None:
        revision = self.pick(choice)
        self.compare(
            lambda: self.oracle.retire(actor, revision),
            lambda: self.send(actor, "post", f"{self.address(revision)}/retire", {"reason": "enough"}),
        )

    # -- Flags and kills ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.oracle.revisions)
    @rule(actor=mostly("operator"), tenant=tenants, choice=choices, enabled=st.booleans(), scale=scales)
    def set_flag(self, actor: Person, tenant: str, choice: int, enabled: bool, scale: str) -> None:
        revision = self.pick(choice)
        body = {"profile": revision.profile, "revision": revision.number, "enabled": enabled, "alpha_scale": scale, "reason": "so"}
        self.compare(
            lambda: self.oracle.set_flag(actor, tenant, revision, enabled=enabled, scale=Decimal(scale)),
            lambda: self.send(actor, "put", f"environments/production/flags/{tenant}", body),
        )

    @rule(actor=people, what=st.sampled_from(KILLS))
    def engage_kill(self, actor: Person, what: tuple[str, str]) -> None:
        kind, target = what
        before = len(self.oracle.kills)
        answer = self.compare(
            lambda: self.oracle.engage_kill(actor, kind, target),
            lambda: self.send(actor, "post", "kills", {"kind": kind, "target": target, "reason": "complaints"}),
        )
        if len(self.oracle.kills) > before:
            self.kill_ids.append((self.oracle.kills[-1], answer["id"]))

    @precondition(lambda self: self.kill_ids)
    @rule(actor=mostly("operator"), choice=choices, step=st.sampled_from(["request-lift", "confirm-lift", "withdraw-lift"]))
    def lift_kill(self, actor: Person, choice: int, step: str) -> None:
        kill, kill_id = self.kill_ids[choice % len(self.kill_ids)]
        foretell, body = getattr(self.oracle, step.replace("-", "_")), {"reason": "enough"} if step == "request-lift" else {}
        self.compare(lambda: foretell(actor, kill), lambda: self.send(actor, "post", f"kills/{kill_id}/{step}", body))

    # -- What an attacker tries -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.oracle.revisions)
    @rule(
        actor=people,
        choice=choices,
        field=st.sampled_from(["state", "status", "approved_by", "author", "approvals_needed", "digest", "tenant"]),
    )
    def assign_what_is_not_theirs(self, actor: Person, choice: int, field: str) -> None:
        revision = self.pick(choice)
        body = {**self.content(revision.vector, "0.4", "0.4"), field: "approved"}
        answer = self.put_revision(actor, revision, body)
        assert answer.status_code in (400, 403), answer.content

    # -- The comparison ---------------------------------------------------------------------------------------------------------

    @invariant()
    def every_revision_is_in_the_state_foretold(self) -> None:
        rows = ProfileRevision.objects.values_list("profile__name", "number", "state")
        assert set(rows) == {(revision.profile, revision.number, revision.state) for revision in self.oracle.revisions}

    @invariant()
    def every_tenant_gets_what_was_foretold_by_the_signed_snapshot(self) -> None:
        _, self.snapshot = read_head(Environment.objects.get(name="production"))
        for tenant in TENANTS:
            effective = resolve(self.snapshot, tenant, "")
            got = (effective.profile.id, effective.profile.revision, effective.components[0].alpha) if effective.profile else None
            assert got == self.oracle.effect(tenant), effective.reason
            self.met["steered" if got else effective.reason] += 1

    def compare(self, foretell: Callable[[], object], ask: Callable[[], Any]) -> Any:
        """Both do it; the answer carries the code foretold, and a refusal leaves no event."""
        events = AuditEvent.objects.count()
        try:
            foretell()
            code = ""
        except Refused as refusal:
            code = refusal.code
        self.met[code] += 1
        answer = ask()
        body = answer.json()
        assert (body.get("code", "") if answer.status_code >= 400 else "") == code, body
        if code:
            assert AuditEvent.objects.count() == events, f"{code} left an event"
        return body

    def send(self, actor: Person, method: str, address: str, body: dict[str, Any], **headers: str) -> Any:
        return getattr(self.clients[actor.name], method)(f"/api/v1/{address}", body, **headers)

    def put_revision(self, actor: Person, revision: Revision, body: dict[str, Any]) -> Any:
        """As whoever has just read it."""
        etag = self.clients[actor.name].get(f"/api/v1/{self.address(revision)}")["ETag"]
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


@pytest.fixture
def world(api, person, ada, base_model, contrast_set, evaluate, production, harbor, atlas) -> None:
    """The cast, three vectors with their evaluations, two profiles, an environment and two tenants."""
    from registry.services.profiles import create_profile
    from registry.services.vectors import import_vector
    from tests.support.files import vector_file

    people_by_name = {}
    for name, member in CAST.items():
        acts_for = people_by_name[member.acts_for] if member.acts_for else None
        known = User.objects.filter(username=name).first()
        people_by_name[name] = known or person(name, *member.roles, acts_for=acts_for)
    Registry.clients = {name: api(user) for name, user in people_by_name.items()}
    Registry.evaluations, Registry.met = {}, Counter()
    for seed, (name, (alpha, passed)) in enumerate(VECTORS.items()):
        vector = import_vector(name, data=vector_file(base_model.fingerprint, contrast_set.digest, seed=seed), author=ada)
        Registry.evaluations[name] = str(evaluate(vector, alpha=str(alpha), passed=passed).pk)
    for name, needed in PROFILES.items():
        create_profile(name, intent="Kind.", purpose="tone", axis="empathy", risk_class="low" if needed == 1 else "high", owner=ada)


def test_no_order_of_requests_makes_the_registry_differ_from_its_oracle(world) -> None:
    run_state_machine_as_test(
        Registry,
        settings=settings(
            max_examples=STEPS // STEPS_PER_RUN,
            stateful_step_count=STEPS_PER_RUN,
            deadline=None,
            # Each step is a request: shrinking a failure to the last detail would take longer than reading it.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    if STEPS >= ENOUGH_TO_MEET_ALL:
        missing = {*REFUSALS, "", "steered"} - set(Registry.met)
        assert not missing, f"no run came to {missing}"
