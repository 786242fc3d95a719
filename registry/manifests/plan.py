"""Plan: compare what manifests want with what is on record. Nothing is changed; the digest says exactly what would be.

The digest covers, for every object, the plan that was last applied to it, what the record says of it and what it would say. So a
plan is stale once anything that it was made from moved, and none can be applied twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from registry.manifests.documents import Fault, Manifest, ManifestsConflict, ManifestsRefused, parse_manifests
from registry.manifests.flags import name_parent
from registry.manifests.kinds import KINDS
from registry.manifests.prune import find_prunable
from registry.manifests.references import References
from registry.manifests.render import Recorded, read_recorded
from registry.manifests.sealed import find_superseded
from registry.manifests.steps import CHANGING, CREATE, NO_OP, UPDATE, Step, find_changes
from registry.models import Declaration, Role
from steernode.canonical import canonical_json, sha256_hex


@dataclass(frozen=True, slots=True)
class Options:
    """How a plan is made; its digest covers them."""

    prune: bool = False
    max_prune_percent: int = 10
    force_conflicts: bool = False

    def document(self) -> dict[str, Any]:
        return {"prune": self.prune, "max_prune_percent": self.max_prune_percent, "force_conflicts": self.force_conflicts}


@dataclass(frozen=True, slots=True)
class Plan:
    """A step for every object, in the order of kinds and names."""

    steps: tuple[Step, ...]
    references: References
    digest: str

    @property
    def changes(self) -> list[Step]:
        return [step for step in self.steps if step.action in CHANGING]

    @property
    def roles(self) -> set[tuple[Role, ...]]:
        """Of each of these, whoever applies it must hold one: each kind takes what it takes elsewhere."""
        return {KINDS[step.kind].roles for step in self.changes}


def make_plan(documents: list[Any], options: Options) -> Plan:
    """What applying the documents would do.

    Raises: ManifestsRefused MANIFEST_*, PRUNE_*; ManifestsConflict OWNERSHIP_CONFLICT, MANIFEST_SUPERSEDED, PRUNE_ACTIVE.
    """
    manifests = parse_manifests(documents)
    if not manifests:
        raise ManifestsRefused([Fault("documents", "MANIFEST_EMPTY", "there is no manifest; to apply nothing would be to want nothing")])
    order = list(KINDS)
    manifests.sort(key=lambda manifest: (order.index(manifest.kind), manifest.name))
    steps, references = _compare_all(manifests)
    conflicts = [_describe_conflict(step) for step in steps if step.is_contested and not options.force_conflicts]
    conflicts += find_superseded(steps)
    if conflicts:
        raise ManifestsConflict(conflicts)
    if options.prune:
        steps += find_prunable(manifests, options.max_prune_percent)
    document = {"schema": "steerhub.plan/1", "options": options.document(), "steps": [step.document() for step in steps]}
    return Plan(tuple(steps), references, sha256_hex(canonical_json(document)))


def _compare_all(manifests: list[Manifest]) -> tuple[list[Step], References]:
    names: dict[str, set[str]] = {}
    for manifest in manifests:
        names.setdefault(manifest.kind, set()).add(manifest.name)
    recorded = {kind: read_recorded(kind, names[kind]) for kind in names}
    declarations = _read_declarations(names)
    references = References(manifests)
    steps, faults = [], []
    for manifest in manifests:
        spec, found = references.resolve(manifest)
        faults += found
        on_record = references.find_registered(manifest) or recorded[manifest.kind].get(manifest.name)
        step = _compare(manifest, spec, on_record, declarations.get((manifest.kind, manifest.name)))
        if step.changes_spec:
            references.expect_version(step)
        steps.append(step)
    if faults:
        raise ManifestsRefused(faults)
    return steps, references


def _compare(manifest: Manifest, spec: dict[str, Any], recorded: Recorded | None, declaration: Declaration | None) -> Step:
    step = Step(manifest.kind, manifest.name, CREATE, manifest=manifest, spec=spec, recorded=recorded, declaration=declaration)
    if recorded is None:
        return replace(step, changes=tuple(find_changes("spec", None, spec)))
    before = _governed(recorded.spec, spec, KINDS[manifest.kind].left_alone)
    labels = declaration.labels if declaration and declaration.spec_digest else {}
    changes = (
        *find_changes("metadata.manager", step.owner, manifest.manager),
        *find_changes("metadata.labels", labels, manifest.labels),
        *find_changes("spec", before, spec),
    )
    return replace(step, action=UPDATE if changes else NO_OP, changes=changes)


def _governed(recorded: dict[str, Any], wanted: dict[str, Any], left_alone: tuple[str, ...]) -> dict[str, Any]:
    """What of a recorded spec the manifest speaks of. Of `baseModels` that is name by name."""
    before = {name: value for name, value in recorded.items() if name in wanted or name not in left_alone}
    if "baseModels" in before:
        before["baseModels"] = {name: value for name, value in before["baseModels"].items() if name in wanted["baseModels"]}
    return before


def read_parents(steps: Iterable[Step]) -> dict[str, dict[str, Any]]:
    """For each flag of a route, the spec of its tenant's flag: as the manifests want it, or as it is on record."""
    flags = [step for step in steps if step.kind == "TenantFlag"]
    parent_of = {step.name: name_parent(step.name) for step in flags if name_parent(step.name)}
    wanted = {step.name: step.spec for step in flags if step.manifest}
    recorded = read_recorded("TenantFlag", set(parent_of.values()) - set(wanted))
    known = {**{name: found.spec for name, found in recorded.items()}, **wanted}
    return {name: known[parent] for name, parent in parent_of.items() if parent in known}


def _read_declarations(names: dict[str, set[str]]) -> dict[tuple[str, str], Declaration]:
    return {
        (declaration.kind, declaration.name): declaration
        for kind, some in names.items()
        for declaration in Declaration.objects.filter(kind=kind, name__in=some).select_related("plan")
    }


def _describe_conflict(step: Step) -> Fault:
    assert step.manifest is not None  # noqa: S101  (only a manifest contests)
    whose = f"by {step.manifest.manager}" if step.manifest.manager else "without a manager"
    message = f"{step.owner} owns it, and it is declared {whose}; leave it to them, or take it over with --force-conflicts"
    return step.manifest.fault("metadata.manager", "OWNERSHIP_CONFLICT", message)
