"""Drift: where four accounts of the same thing differ. What files say, what is on record, what the newest snapshot says, what nodes do."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from registry.manifests.flags import describe_flag, describe_told, inherit_spec, split_flag_name
from registry.manifests.kinds import KINDS
from registry.manifests.plan import Options, make_plan, read_parents
from registry.manifests.render import read_recorded
from registry.manifests.steps import NO_OP, Step
from registry.models import Declaration, Environment
from registry.reads.fleet import Standings, standings
from registry.snapshots import read_heads
from steernode.snapshot.records import Snapshot

# Where an account has nothing to say of a kind.
SILENT = "-"


@dataclass(frozen=True, slots=True)
class DriftRow:
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


def find_drift(documents: list[Any]) -> list[DriftRow]:
    """A row for each object declared, and for each that a manager of these manifests declared before and no longer does.

    Raises: what `make_plan` raises, except for conflicts of ownership: to look is no claim.
    """
    plan = make_plan(documents, Options(force_conflicts=True))
    fleet = Fleet()
    parents = read_parents(plan.steps)
    rows = [_compare(step, parents.get(step.name), fleet) for step in plan.steps]
    managers = {step.manifest.manager for step in plan.steps if step.manifest and step.manifest.manager}
    declared = {(step.kind, step.name) for step in plan.steps}
    for kind in KINDS:
        left = Declaration.objects.filter(kind=kind, manager__in=managers).exclude(spec_digest="").values_list("name", flat=True)
        gone = read_recorded(kind, [name for name in left if (kind, name) not in declared])
        rows += [DriftRow(kind, name, "absent", "present", SILENT, SILENT, True) for name in gone]
    return rows


def _compare(step: Step, parent: dict[str, Any] | None, fleet: Fleet) -> DriftRow:
    if step.kind == "TenantFlag":
        return _compare_flag(step, parent, fleet)
    specs = [change.field for change in step.changes if change.field.startswith("spec")]
    registry = "absent" if step.recorded is None else f"differs in {', '.join(specs)}" if specs else "same"
    snapshot, nodes, is_told = SILENT, SILENT, True
    if step.kind == "Environment" and step.name in fleet.heads:
        snapshot = f"r{fleet.heads[step.name].revision}"
        nodes, is_told = fleet.convergence(step.name)
    if step.kind == "BaseModel" and step.recorded is not None:
        fingerprint = step.recorded.spec["fingerprint"]
        knowing = [name for name, head in fleet.heads.items() if any(entry.fingerprint == fingerprint for entry in head.base_models)]
        snapshot, is_told = f"{len(knowing)} of {len(fleet.heads)} environments", len(knowing) == len(fleet.heads)
    return DriftRow(step.kind, step.name, "declared", registry, snapshot, nodes, step.action != NO_OP or not is_told)


def _compare_flag(step: Step, parent: dict[str, Any] | None, fleet: Fleet) -> DriftRow:
    """`parent` is the spec of the tenant's flag as the files have it, or the record."""
    environment, tenant, route = split_flag_name(step.name)
    files = describe_flag(inherit_spec(step.spec, parent))
    registry = describe_flag(inherit_spec(step.recorded.spec if step.recorded else None, parent))
    head = fleet.heads.get(environment)
    told = describe_told(head, tenant, route) if head else "no snapshot"
    nodes, in_step = fleet.convergence(environment)
    drifts = step.action != NO_OP or told != registry or not in_step
    return DriftRow(step.kind, step.name, files, registry if step.recorded else "absent", told, nodes, drifts)
