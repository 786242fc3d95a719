"""What is said of objects beside their specs: why one stays, what changing it means, what the hub makes of it, what nodes do."""

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple, NotRequired, TypedDict

from registry.models import Environment, Evaluation, Verdict
from registry.reads.documents import describe_waiver
from registry.reads.fleet import Standings, standings
from registry.snapshots import read_heads
from steernode.snapshot.conditions import describe_condition
from steernode.snapshot.records import Snapshot


class InUse(NamedTuple):
    """Why an object cannot be pruned. An active one stops the plan; any other is retained."""

    reason: str
    is_active: bool = False


class Risk(NamedTuple):
    """One consequence. What `blocks` is refused when the plan is applied."""

    code: str
    message: str
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Consequences:
    """By object the risks of changing it; by environment whose nodes are told something else, the tenants that are newly steered."""

    risks: Mapping[str, Sequence[Risk]] = field(default_factory=dict)
    reach: Mapping[str, Set[str]] = field(default_factory=dict)


class StatusCondition(TypedDict):
    """As Kubernetes writes them: `status` is "True" or "False", `reason` one word, `message` for people."""

    type: str
    status: str
    reason: str
    message: NotRequired[str]
    lastTransitionTime: NotRequired[str]


def condition(kind: str, holds: bool, reason: str, message: str = "", *, since: datetime | None = None) -> StatusCondition:
    found = StatusCondition(type=kind, status="True" if holds else "False", reason=reason)
    if message:
        found["message"] = message
    if since is not None:
        found["lastTransitionTime"] = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    return found


_EVIDENCE = {None: "NoEvaluation", Verdict.PASSED: "GatesPassed", Verdict.FAILED: "GatesFailed", Verdict.UNDECIDABLE: "GatesUndecidable"}


def judge_evidence(
    evaluation: Evaluation | None, waivers: Sequence[Mapping[str, str]] = (), *, ended: Collection[str] = ()
) -> StatusCondition:
    """`EvidenceComplete` by the verdict of an evaluation, with where and under what it was measured if that is not everywhere; None
    where there is none. `waivers` are those that a revision was submitted with, and `ended` the ids of those of them that stand for
    nothing any more."""
    if gone := [waiver for waiver in waivers if waiver["id"] in ended]:
        return condition("EvidenceComplete", False, "WaiverEnded", "; ".join(describe_waiver(waiver) for waiver in gone))
    measured = _say_measured(evaluation) if evaluation else ""
    if waivers:
        said = [*(describe_waiver(waiver) for waiver in waivers), *filter(None, [measured])]
        return condition("EvidenceComplete", True, "GatesWaived", "; ".join(said))
    if evaluation is None:
        return condition("EvidenceComplete", False, _EVIDENCE[None])
    return condition("EvidenceComplete", evaluation.passed, _EVIDENCE[Verdict(evaluation.verdict)], measured)


def _say_measured(evaluation: Evaluation) -> str:
    where = f"measured {describe_condition(evaluation.condition)}" if evaluation.condition else ""
    under = f"under the system message {evaluation.system_message!r}" if evaluation.system_message else ""
    return ", ".join(filter(None, (where, under)))


# Where an account has nothing to say of a kind.
SILENT = "-"


class DriftRow(NamedTuple):
    """One object in four accounts."""

    kind: str
    name: str
    files: str
    registry: str
    snapshot: str
    nodes: str
    drifts: bool


class Fleet:
    """The newest snapshots, and what nodes report, environment by environment."""

    @cached_property
    def heads(self) -> dict[str, Snapshot]:
        return read_heads(Environment.objects.all())

    @cached_property
    def standings(self) -> dict[str, Standings]:
        return standings(Environment.objects.all())

    def convergence(self, environment: str) -> tuple[str, bool]:
        """In words, and whether every node is in step."""
        found = self.standings.get(environment, Standings())
        if not found.nodes:
            return "no nodes", True
        behind = sorted({f"{state} at r{node.applied_revision}" if node.applied_revision else state for node, state in found.others})
        return f"{found.in_step} of {len(found.nodes)} in step" + (f"; {', '.join(behind)}" if behind else ""), not behind
