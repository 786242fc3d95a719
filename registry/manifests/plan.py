"""Plan: compare what manifests want with what is on record. Nothing is changed; the digest says exactly what would be.

The digest covers, for every object, the plan that was last applied to it, what the record says of it and what it would say. So a
plan is stale once anything that it was made from moved, and none can be applied twice.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from registry.manifests.documents import Fault, Manifest, ManifestsConflict, ManifestsRefused
from registry.manifests.fields import Spec
from registry.manifests.kind import Kind, References
from registry.manifests.kinds import KINDS, of_each_kind
from registry.manifests.parse import parse_manifests
from registry.manifests.prune import find_prunable
from registry.manifests.steps import CHANGING, CREATE, NO_OP, UPDATE, Recorded, Step, find_changes
from registry.models import Declaration, Role
from steernode.canonical import canonical_json, sha256_hex


class Options(NamedTuple):
    """How a plan is made; its digest covers them."""

    prune: bool = False
    max_prune_percent: int = 10
    force_conflicts: bool = False


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

    Raises: ManifestsRefused MANIFEST_*, SPELLING, NAME_CASE, PRUNE_*;
    ManifestsConflict OWNERSHIP_CONFLICT, MANIFEST_SUPERSEDED, PRUNE_ACTIVE.
    """
    return plan_manifests(parse_manifests(documents), options)


def plan_manifests(manifests: Sequence[Manifest], options: Options) -> Plan:
    """What `make_plan` says of manifests that are read already."""
    if not manifests:
        raise ManifestsRefused([Fault("documents", "MANIFEST_EMPTY", "there is no manifest; to apply nothing would be to want nothing")])
    order = list(KINDS)
    steps, references = _compare_all(sorted(manifests, key=lambda each: (order.index(each.kind), each.name)))
    if twins := [fault for kind, some in of_each_kind(steps) for fault in _find_twins(kind, some)]:
        raise ManifestsRefused(twins)
    contested = [step for step in steps if step.is_contested and not options.force_conflicts]
    conflicts = [_describe_conflict(step.owner, step.manifest) for step in contested if step.manifest]
    conflicts += [fault for kind, some in of_each_kind(steps) for fault in kind.find_superseded(some)]
    if conflicts:
        raise ManifestsConflict(conflicts)
    if options.prune:
        steps += find_prunable(manifests, options.max_prune_percent)
    document = {"schema": "steerhub.plan/1", "options": options._asdict(), "steps": [step.document() for step in steps]}
    return Plan(tuple(steps), references, sha256_hex(canonical_json(document)))


def _compare_all(manifests: list[Manifest]) -> tuple[list[Step], References]:
    references = References(manifests, KINDS)
    recorded = {kind.name: kind.read({each.name for each in manifests if each.kind == kind.name}) for kind in KINDS.values()}
    rows = Declaration.objects.filter(kind__in={each.kind for each in manifests}, name__in={each.name for each in manifests})
    declarations = {(row.kind, row.name): row for row in rows.select_related("plan")}
    steps, faults = [], []
    for manifest in manifests:
        kind, spec = KINDS[manifest.kind], manifest.spec
        found = kind.find_missing(manifest, references)
        if not found:
            spec, found = kind.resolve(manifest, references)
        on_record = kind.find_recorded(manifest, recorded[manifest.kind].get(manifest.name), references)
        step = _compare(manifest, spec, on_record, declarations.get((manifest.kind, manifest.name)))
        if not found and step.changes_record:
            found = list(kind.find_refused(step))
        faults += found
        if step.changes_field("spec"):
            references.expect(step)
        steps.append(step)
    if faults:
        raise ManifestsRefused(faults)
    return steps, references


def _compare(manifest: Manifest, spec: Spec, recorded: Recorded[Any] | None, declaration: Declaration | None) -> Step:
    step = Step(manifest.kind, manifest.name, CREATE, manifest=manifest, spec=spec, recorded=recorded, declaration=declaration)
    if recorded is None:
        return replace(step, changes=tuple(find_changes("spec", None, spec)))
    labels = declaration.labels if declaration and declaration.spec_digest else {}
    changes = (
        *find_changes("metadata.manager", step.owner, manifest.manager),
        *find_changes("metadata.labels", labels, manifest.labels),
        *find_changes("spec", KINDS[manifest.kind].govern(recorded.spec, spec), spec),
    )
    note = KINDS[manifest.kind].note(recorded.spec, spec)
    return replace(step, action=UPDATE if changes else NO_OP, changes=changes, note=note)


def _find_twins(kind: Kind[Any, Any], steps: list[Step]) -> Iterator[Fault]:
    """A fault for each new name that another one, on record or in these manifests, differs from only in capitals."""
    new = [step for step in steps if step.recorded is None]
    alike = defaultdict[str, set[str]](set)
    for name in (*kind.find_alike([step.name for step in new]), *(step.name for step in steps)) if new else ():
        alike[name.casefold()].add(name)
    for step in new:
        twins = alike[step.name.casefold()] - {step.name}
        if twins and step.manifest:
            message = f"differs from {min(twins)!r} only in capitals; use that one, or another name"
            yield step.manifest.fault("metadata.name", "NAME_CASE", message)


def _describe_conflict(owner: str, manifest: Manifest) -> Fault:
    whose = f"by {manifest.manager}" if manifest.manager else "without a manager"
    message = f"{owner} owns it, and it is declared {whose}; leave it to them, or take it over with --force-conflicts"
    return manifest.fault("metadata.manager", "OWNERSHIP_CONFLICT", message)
