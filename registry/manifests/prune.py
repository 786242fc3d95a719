"""Pruning: what a manager's manifests no longer declare. Off by default, bounded, and never of what is sealed or in use."""

from collections.abc import Sequence

from registry.manifests.accounts import InUse
from registry.manifests.documents import Fault, Manifest, ManifestsConflict, ManifestsRefused
from registry.manifests.kinds import KINDS
from registry.manifests.steps import DELETE, RETAIN, Step
from registry.models import Declaration


def find_prunable(manifests: Sequence[Manifest], max_percent: int) -> list[Step]:
    """A step for each object that one of the manifests' managers owns and no manifest declares, flags before their tenants.

    Raises: ManifestsRefused PRUNE_MANAGER, PRUNE_TOO_MUCH; ManifestsConflict PRUNE_ACTIVE.
    """
    managers = {manifest.manager for manifest in manifests if manifest.manager}
    if not managers:
        message = "pruning takes away what a manager no longer declares, and these manifests name no metadata.manager"
        raise ManifestsRefused([Fault("documents", "PRUNE_MANAGER", message)])
    declared = {(manifest.kind, manifest.name) for manifest in manifests}
    owned = list(Declaration.objects.in_force().filter(manager__in=managers, kind__in=KINDS).select_related("plan"))
    left = [declaration for declaration in owned if (declaration.kind, declaration.name) not in declared]
    steps, active = _judge(left)
    deletions = sum(step.action == DELETE for step in steps)
    if active:
        raise ManifestsConflict(active)
    if deletions * 100 > max_percent * len(owned):
        percent = -(-deletions * 100 // len(owned))
        message = (
            f"pruning would delete {deletions} of the {len(owned)} objects of {', '.join(sorted(managers))} ({percent} %), "
            f"and at most {max_percent} % are allowed; check that no folder is missing, or raise --max-prune-percent"
        )
        raise ManifestsRefused([Fault("documents", "PRUNE_TOO_MUCH", message)])
    return steps


def _judge(left: Sequence[Declaration]) -> tuple[list[Step], list[Fault]]:
    steps: list[Step] = []
    active: list[Fault] = []
    # The last kind refers to those before it, so it goes first.
    for kind in reversed(KINDS.values()):
        declarations = {declaration.name: declaration for declaration in left if declaration.kind == kind.name}
        recorded = kind.read(declarations)
        users = kind.find_users(recorded, [step for step in steps if step.action == DELETE])
        # Likewise the flag of a route goes before the tenant's flag that it may inherit from.
        for name, found in sorted(recorded.items(), reverse=True):
            reason, is_active = users.get(name, InUse(""))
            if is_active:
                active.append(Fault("documents", "PRUNE_ACTIVE", f"{kind.name} {name} {reason}; turn that off first, then prune"))
                continue
            note = kind.retained or reason
            steps.append(Step(kind.name, name, RETAIN if note else DELETE, recorded=found, declaration=declarations[name], note=note))
    return steps, active
