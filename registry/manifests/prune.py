"""Pruning: what a manager's manifests no longer declare. Off by default, bounded, and never of what is sealed or in use."""

from collections.abc import Iterable, Sequence

from registry.manifests.documents import Fault, Manifest, ManifestsConflict, ManifestsRefused
from registry.manifests.kinds import KINDS
from registry.manifests.render import Recorded, read_recorded
from registry.manifests.steps import DELETE, RETAIN, Step
from registry.models import Declaration, Kill, ProfileRevision, TenantFlag


def find_prunable(manifests: Sequence[Manifest], max_percent: int) -> list[Step]:
    """A step for each object that one of the manifests' managers owns and no manifest declares, flags before their tenants.

    Raises: ManifestsRefused PRUNE_MANAGER, PRUNE_TOO_MUCH; ManifestsConflict PRUNE_ACTIVE.
    """
    managers = {manifest.manager for manifest in manifests if manifest.manager}
    if not managers:
        message = "pruning takes away what a manager no longer declares, and these manifests name no metadata.manager"
        raise ManifestsRefused([Fault("documents", "PRUNE_MANAGER", message)])
    declared = {(manifest.kind, manifest.name) for manifest in manifests}
    owned = list(Declaration.objects.filter(manager__in=managers, kind__in=KINDS).exclude(spec_digest="").select_related("plan"))
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


def _judge(left: Iterable[Declaration]) -> tuple[list[Step], list[Fault]]:
    steps: list[Step] = []
    active: list[Fault] = []
    by_kind: dict[str, dict[str, Declaration]] = {}
    for declaration in left:
        by_kind.setdefault(declaration.kind, {})[declaration.name] = declaration
    # The last kind refers to those before it, so it goes first.
    for kind in reversed([kind for kind in KINDS if kind in by_kind]):
        recorded = read_recorded(kind, by_kind[kind].keys())
        in_use = _find_users(kind, recorded, steps)
        # Likewise the flag of a route goes before the tenant's flag that it may inherit from.
        for name, found in reversed(recorded.items()):
            reason, is_active = in_use.get(name, ("", False))
            if is_active:
                active.append(Fault("documents", "PRUNE_ACTIVE", f"{kind} {name} {reason}; turn that off first, then prune"))
                continue
            note = KINDS[kind].retained or reason
            steps.append(Step(kind, name, RETAIN if note else DELETE, recorded=found, declaration=by_kind[kind][name], note=note))
    return steps, active


def _find_users(kind: str, recorded: dict[str, Recorded], steps: Sequence[Step]) -> dict[str, tuple[str, bool]]:
    """Why an object cannot go, by its name: (the reason, whether it is active). Retained for good otherwise."""
    rows = [found.row for found in recorded.values()]
    if kind == "TenantFlag":
        return {name: ("is on", True) for name, found in recorded.items() if found.row.enabled}
    if kind == "Tenant":
        going = [step.recorded.row.pk for step in steps if step.kind == "TenantFlag" and step.action == DELETE and step.recorded]
        flagged = TenantFlag.objects.filter(tenant__in=rows).exclude(pk__in=going).values_list("tenant__name", flat=True)
        killed = Kill.objects.filter(tenant__in=rows).values_list("tenant__name", flat=True)
        return {**dict.fromkeys(killed, ("is named by kills, which stay on record", False)), **dict.fromkeys(flagged, ("has flags", True))}
    if kind == "SteeringProfile":
        used = ProfileRevision.objects.filter(profile__in=rows).values_list("profile__name", flat=True)
        return dict.fromkeys(used, ("has revisions, which stay on record", False))
    return {}
