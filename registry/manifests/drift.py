"""Drift: where four accounts of the same thing differ. What files say, what is on record, what the newest snapshot says, what nodes do."""

from typing import Any

from registry.manifests.accounts import SILENT, DriftRow, Fleet
from registry.manifests.kinds import KINDS, of_each_kind
from registry.manifests.plan import Options, make_plan
from registry.models import Declaration


def find_drift(documents: list[Any]) -> list[DriftRow]:
    """A row for each object declared, and for each that a manager of these manifests declared before and no longer does.

    Raises: what `make_plan` raises, except for conflicts of ownership: to look is no claim.
    """
    plan = make_plan(documents, Options(force_conflicts=True))
    fleet = Fleet()
    rows = [row for kind, steps in of_each_kind(plan.steps) for row in kind.compare(steps, fleet)]
    managers = {step.manifest.manager for step in plan.steps if step.manifest and step.manifest.manager}
    declared = {(step.kind, step.name) for step in plan.steps}
    for kind in KINDS.values():
        left = Declaration.objects.in_force().filter(kind=kind.name, manager__in=managers).values_list("name", flat=True)
        gone = kind.read([name for name in left if (kind.name, name) not in declared])
        rows += [DriftRow(kind.name, name, "absent", "present", SILENT, SILENT, True) for name in sorted(gone)]
    return rows
