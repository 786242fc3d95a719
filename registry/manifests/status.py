"""Status: what the hub makes of an object, as conditions. Server-owned: given by an export, ignored in what is applied."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from registry.manifests.render import Recorded
from registry.models import BaseModel, Declaration, Evaluation, Job, ProfileRevision, RevisionState
from registry.reads.fleet import standings
from registry.snapshots import read_heads
from steernode.snapshot.resolve import resolve_arms

Condition = dict[str, Any]


def condition(kind: str, holds: bool, reason: str, message: str = "", *, since: Any = None) -> Condition:
    """As Kubernetes writes them: type, status "True" or "False", a reason in one word, a message for people."""
    found = {"type": kind, "status": "True" if holds else "False", "reason": reason}
    if message:
        found["message"] = message
    if since is not None:
        found["lastTransitionTime"] = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    return found


class Statuses:
    """The statuses of the objects of one kind, read in a few queries whatever their number."""

    def __init__(self, kind: str, recorded: dict[str, Recorded], declarations: dict[str, Declaration]) -> None:
        self.declarations = declarations
        rows = {name: found.row for name, found in recorded.items()}
        self.conditions = _JUDGE[kind](rows) if kind in _JUDGE else {}
        self.unfinished = {name for name, row in rows.items() if isinstance(row, Job)}

    def of(self, name: str) -> dict[str, Any]:
        declaration = self.declarations.get(name)
        status: dict[str, Any] = {}
        if declaration is not None:
            status["generation"] = declaration.generation
            # A recipe is only seen to when its job has ended; everything else was when it was applied.
            status["observedGeneration"] = declaration.generation - (name in self.unfinished)
        return {**status, "conditions": self.conditions.get(name, [])}


def _judge_sealed(rows: dict[str, Any]) -> dict[str, list[Condition]]:
    return {name: [condition("Sealed", True, f"Version{row.version}", row.digest, since=row.sealed_at)] for name, row in rows.items()}


def _judge_base_models(rows: dict[str, Any]) -> dict[str, list[Condition]]:
    return {name: [condition("Sealed", True, "Registered", row.fingerprint, since=row.registered_at)] for name, row in rows.items()}


def _judge_vectors(rows: dict[str, Any]) -> dict[str, list[Condition]]:
    current = _current_fingerprints()
    vectors = [row for row in rows.values() if not isinstance(row, Job)]
    passed = dict(Evaluation.objects.filter(vector__in=vectors).values_list("vector_id", "passed"))

    def judge(row: Any) -> Iterator[Condition]:
        if isinstance(row, Job):
            yield condition("Sealed", False, f"Job{row.state.title()}", f"job {row.pk} is {row.state}")
            return
        yield condition("Sealed", True, f"Version{row.version}", row.digest, since=row.sealed_at)
        yield _base_model_match(row.base_model, current)
        reason = {None: "NoEvaluation", True: "GatesPassed", False: "GatesFailed"}[passed.get(row.pk)]
        yield condition("EvidenceComplete", passed.get(row.pk) is True, reason)

    return {name: list(judge(row)) for name, row in rows.items()}


def _judge_profiles(rows: dict[str, Any]) -> dict[str, list[Condition]]:
    current = _current_fingerprints()
    latest = ProfileRevision.objects.filter(profile__in=rows.values()).order_by("profile_id", "-number").distinct("profile_id")
    revisions = {revision.profile_id: revision for revision in latest.select_related("base_model", "evaluation")}

    def judge(row: Any) -> Iterator[Condition]:
        revision = revisions.get(row.pk)
        if revision is None:
            yield condition("Approved", False, "NoRevision")
            return
        approved = revision.state == RevisionState.APPROVED
        message = f"revision {revision.number} is {revision.state}"
        yield condition("Approved", approved, revision.state.title(), message, since=revision.decided_at)
        passed = revision.evaluation is not None and revision.evaluation.passed
        yield condition("EvidenceComplete", passed, "GatesPassed" if passed else "NoEvaluation")
        yield _base_model_match(revision.base_model, current)

    return {name: list(judge(row)) for name, row in rows.items()}


def _base_model_match(base_model: BaseModel, current: dict[str, str]) -> Condition:
    matches = current[base_model.name] == base_model.fingerprint
    return condition("BaseModelMatch", matches, "CurrentFingerprint" if matches else "OtherFingerprint", base_model.fingerprint)


def _current_fingerprints() -> dict[str, str]:
    """By the name of a base model, the one registered last."""
    rows = BaseModel.objects.order_by("name", "-registered_at", "-id").distinct("name")
    return dict(rows.values_list("name", "fingerprint"))


def _judge_environments(rows: dict[str, Any]) -> dict[str, list[Condition]]:
    nodes = standings(rows.values())

    def judge(name: str, row: Any) -> Condition:
        here = nodes[name]
        others = Counter(state for _, state in here.others)
        shown = ", ".join(f"{others[state]} {state}" for state in sorted(others))
        message = f"head revision {row.head_revision}" + (f"; {shown}" if others else "")
        return condition("Converged", not others, f"{here.in_step}of{len(here.nodes)}", message)

    return {name: [judge(name, row)] for name, row in rows.items()}


def _judge_flags(rows: dict[str, Any]) -> dict[str, list[Condition]]:
    heads = read_heads({row.environment_id: row.environment for row in rows.values()}.values())

    def judge(row: Any) -> Condition:
        head = heads.get(row.environment.name)
        flag = head.flag_for(row.tenant.name, row.route) if head else None
        answers = resolve_arms(head, flag) if head and flag and row.enabled else []
        if any(answer.profile for answer in answers):
            return condition("Live", True, "Steering", since=row.changed_at)
        reason = "Killed" if any(answer.killed_by for answer in answers) else "NotSteering" if row.enabled else "Off"
        return condition("Live", False, reason, since=row.changed_at)

    return {name: [judge(row)] for name, row in rows.items()}


_JUDGE: dict[str, Callable[[dict[str, Any]], dict[str, list[Condition]]]] = {
    "BaseModel": _judge_base_models,
    "ContrastSet": _judge_sealed,
    "EvalSuite": _judge_sealed,
    "SteeringVector": _judge_vectors,
    "SteeringProfile": _judge_profiles,
    "Environment": _judge_environments,
    "TenantFlag": _judge_flags,
}
