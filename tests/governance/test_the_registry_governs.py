"""Everybody does anything in any order; the registry and an in-memory oracle never differ.

What is compared after each step: the answer's code, that a refusal leaves no event, the state of every revision and of every kill, who
of those who decided has left, what every tenant gets by the signed snapshot, what the newest stop statement lists and releases, what
every node then obeys, and which nodes may pull and count.
"""

import os
from random import Random

from tests.support.governance.flags import CONFIRMATIONS
from tests.support.governance.people import CAST
from tests.support.walks.fleet import FleetWalk
from tests.support.walks.walking import walk

STEPS = int(os.environ.get("STEERHUB_GOVERNANCE_STEPS", "1000"))
# Whoever walks from a seed walks the same way again.
SEED = os.environ.get("STEERHUB_GOVERNANCE_SEED", "1")
STEPS_PER_WALK = 50
# What a walk that proves something has met, each so many times.
AT_LEAST = 2
REFUSALS = (
    "ALPHA_RANGE",
    "ALREADY_DECIDED",
    "AUTHOR_LEFT",
    "BASE_MODEL_NOT_FOUND",
    "BASE_MODEL_NOT_SERVED",
    "CONFIRMATION_NEEDED",
    "DIGEST_MISMATCH",
    "ENROLMENT_TOKEN",
    "ENVIRONMENT_NOT_FOUND",
    "EVIDENCE_MISMATCH",
    "FLAG_NOT_APPROVED",
    "GATES_FAILED",
    "KILL_LIFT_NEEDS_TWO",
    "KILL_NOT_FOUND",
    "KILL_TARGET",
    "LIFT_AUTHOR_LEFT",
    "LIFT_EXPIRED",
    "LIFT_NOT_REQUESTED",
    "NODE_ACTIVE",
    "NODE_EXISTS",
    "NODE_NOT_FOUND",
    "NODE_WITHDRAWN",
    "NOT_AUTHENTICATED",
    "NOT_THE_AUTHOR",
    "OWN_ACCESS",
    "PERMISSION_DENIED",
    "PLAN_STALE",
    "REPORT_LATE",
    "REPORT_REPLAYED",
    "REPORT_SIGNATURE",
    "REVISION_STATE",
    "SELF_APPROVAL",
    "VALIDATION",
)
THINGS = (
    "steered",
    "came or went",
    "approved, and one who approved has left",
    "an environment of later files",
    "killed again",
    "killed again while a lift was asked for",
    "taken on record from offline",
    "taken on record from a hub that lost it",
    "a statement that nodes needed",
    "a node let go",
    "a node heard an old one",
    "a node obeys what the record says",
    "enrolled",
    "rotated",
    "re-enrolled",
    *("SYNCED", "BEHIND", "NACKED", "MISMATCH", "SILENT", "NEVER", "WITHDRAWN"),
)


def begin(walk: FleetWalk, random: Random) -> None:
    """Half of the walks begin where an honest path ends; the others find their own way. The same of two approvals, of
    an environment of later files, and of a node."""
    ada, grace, oscar = CAST["ada"], CAST["grace"], CAST["oscar"]
    if random.random() < 0.5:
        walk.draft(ada, "gentle", "warm", "honest")
        walk.submit(ada, 0)
        walk.decide(grace, 0, 0, "approve")
        for confirmed in (random.choice(CONFIRMATIONS), "planned"):
            walk.set_flag(oscar, "production", "harbor", 1, True, "1", confirmed)
    if random.random() < 0.5:
        walk.draft(ada, "grave", "warm", "honest")
        walk.submit(ada, len(walk.oracle.revisions) - 1)
        walk.decide(grace, len(walk.oracle.revisions) - 1, 0, "approve")
    if random.random() < 0.3:
        walk.register(oscar)
        walk.create_environment(oscar)
        if walk.oracle.revisions:
            walk.set_flag(oscar, "staging", "atlas", 1, True, "1")
    if random.random() < 0.8:
        walk.invite(oscar, "north", "production")
        walk.enroll("north", is_own=True, is_late=False)


def test_no_order_of_requests_makes_the_registry_differ_from_its_oracle(world) -> None:
    for number in range(STEPS // STEPS_PER_WALK):
        machine = FleetWalk()
        try:
            walk(machine, f"{SEED}-{number}", STEPS_PER_WALK, begin)
        finally:
            machine.forget()
    missing = {word: FleetWalk.met[word] for word in ("", *REFUSALS, *THINGS) if FleetWalk.met[word] < AT_LEAST}
    assert not missing, f"the walks came too seldom to {missing}"
