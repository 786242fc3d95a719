"""TenantFlag: which approved revision a tenant is steered by, named by its place and complete in what it says.

Its fields, and how they read as text, are in `flag_spec`; what a plan of flags warns of is in `flag_risks`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from registry.manifests.accounts import Consequences, DriftRow, Fleet, InUse, StatusCondition, condition
from registry.manifests.documents import Fault, Manifest
from registry.manifests.fields import Spec, spelled
from registry.manifests.kind import Index, Kind, Names, Reference, References, Writer
from registry.manifests.kinds.environment import Environments
from registry.manifests.kinds.flag_risks import FlagRisks
from registry.manifests.kinds.flag_spec import FLAG, complete_flag, describe_spec, describe_told, render_flag, split_flag_name, state_flag
from registry.manifests.kinds.profile import Pointer, Profiles
from registry.manifests.kinds.tenant import Tenants
from registry.manifests.steps import CHANGING, Recorded, Step
from registry.models import Role, TenantFlag
from registry.services.flags import delete_flag, set_flag
from registry.snapshots import read_heads
from steernode.snapshot.resolve import resolve_arms


class Flags(Kind[TenantFlag, Index[TenantFlag]]):
    name = "TenantFlag"
    about = "Which approved revision a tenant is steered by, in one environment."
    roles = (Role.OPERATOR,)
    spec = FLAG
    left_alone = ("rolloutSalt", "armsSalt")
    model = TenantFlag
    index = Index[TenantFlag]
    object_name = spelled(
        "ENVIRONMENT/TENANT for every route without a flag of its own, or ENVIRONMENT/TENANT/ROUTE.",
        max_length=252,
        pattern="^[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9][A-Za-z0-9_-]*(/.{1,100})?$",
    )

    def render(self, row: TenantFlag) -> Spec:
        return render_flag(row)

    def read(self, names: Names = None) -> dict[str, Recorded[TenantFlag]]:
        rows = TenantFlag.objects.select_related("environment", "tenant", "revision__profile").prefetch_related("arms__revision__profile")
        if names is not None:
            # Whoever asks for one name of every kind asks for names that no flag can have.
            split = [split_flag_name(name) for name in names if "/" in name]
            rows = rows.filter(environment__name__in={part[0] for part in split}, tenant__name__in={part[1] for part in split})
        found = {str(row): Recorded(self.render(row), row) for row in rows}
        return found if names is None else {name: found[name] for name in names if name in found}

    def find_alike(self, names: Collection[str]) -> Iterable[str]:
        environments, tenants, _ = zip(*[split_flag_name(name) for name in names], strict=True)
        rows = TenantFlag.objects.filter(environment__name__in=environments, tenant__name__in=tenants)
        return [str(row) for row in rows.select_related("environment", "tenant")]

    def references(self, manifest: Manifest) -> Iterator[Reference]:
        environment, tenant, _route = split_flag_name(manifest.name)
        yield Reference(Environments.name, "metadata.name", environment)
        yield Reference(Tenants.name, "metadata.name", tenant)
        for path, pointer in _find_pointers(manifest.spec):
            yield Reference(Profiles.name, f"{path}.profile", pointer[0])

    def resolve(self, manifest: Manifest, references: References) -> tuple[Spec, list[Fault]]:
        spec, faults = complete_flag(manifest)
        for path, pointer in _find_pointers(spec):
            if pointer not in references.of(Profiles).revisions:
                message = f"{pointer[0]} has no revision {pointer[1]} on record"
                faults.append(manifest.fault(f"{path}.revision", "MANIFEST_REFERENCE", message))
        return spec, faults

    def find_users(self, recorded: Mapping[str, Recorded[TenantFlag]], going: Sequence[Step]) -> Mapping[str, InUse]:
        return {name: InUse("is on", is_active=True) for name, found in recorded.items() if found.row.enabled}

    def write(self, step: Step, writer: Writer) -> None:
        environment, tenant, route = split_flag_name(step.name)
        set_flag(
            writer.references.of(Environments).made[environment],
            writer.references.of(Tenants).made[tenant],
            enabled=step.spec["enabled"],
            reason=step.spec["reason"],
            route=route,
            actor=writer.actor,
            **state_flag(step.spec, writer.references.of(Profiles).revisions),
        )

    def delete(self, step: Step, writer: Writer) -> None:
        if step.recorded is not None:
            delete_flag(step.recorded.row.pk, actor=writer.actor)

    def judge(self, rows: Mapping[str, TenantFlag]) -> Mapping[str, list[StatusCondition]]:
        heads = read_heads({row.environment_id: row.environment for row in rows.values()}.values())

        def judge(row: TenantFlag) -> StatusCondition:
            head = heads.get(row.environment.name)
            flag = head.flag_for(row.tenant.name, row.route) if head else None
            answers = resolve_arms(head, flag) if head and flag and row.enabled else []
            if any(answer.profile for answer in answers):
                return condition("Live", True, "Steering", since=row.changed_at)
            reason = "Killed" if any(answer.killed_by for answer in answers) else "NotSteering" if row.enabled else "Off"
            return condition("Live", False, reason, since=row.changed_at)

        return {name: [judge(row)] for name, row in rows.items()}

    def weigh(self, steps: Sequence[Step], references: References) -> Consequences:
        changing = [step for step in steps if step.action in CHANGING]
        risks = FlagRisks(changing, self.read_parents(steps), references.of(Profiles).revisions)
        return Consequences({step.name: list(risks.find_risks(step)) for step in changing if step.manifest}, risks.reach(changing))

    def compare(self, steps: Sequence[Step], fleet: Fleet) -> Iterator[DriftRow]:
        parents = self.read_parents(steps)
        for step in steps:
            environment, tenant, route = split_flag_name(step.name)
            parent, head = parents.get(step.name), fleet.heads.get(environment)
            files = describe_spec(step.spec, parent)
            registry = describe_spec(step.recorded.spec, parent) if step.recorded else "absent"
            told = describe_told(head, tenant, route) if head else "no snapshot"
            nodes, in_step = fleet.convergence(environment)
            drifts = bool(step.differing) or told != registry or not in_step
            # What both come to may be the same, such as where only the reason differs.
            also = f"; differs in {step.differing}" if files == registry and step.differing else ""
            yield DriftRow(self.name, step.name, files, f"{registry}{also}", told, nodes, drifts)

    def read_parents(self, steps: Sequence[Step]) -> dict[str, Spec]:
        """For each flag of a route, the spec of its tenant's flag: as the manifests want it, or as it is on record."""
        places = {step.name: split_flag_name(step.name) for step in steps}
        parents = {name: f"{environment}/{tenant}" for name, (environment, tenant, route) in places.items() if route}
        wanted = {step.name: step.spec for step in steps if step.manifest}
        recorded = self.read(set(parents.values()) - set(wanted))
        known = {name: found.spec for name, found in recorded.items()} | wanted
        return {name: known[parent] for name, parent in parents.items() if parent in known}


def _find_pointers(spec: Spec) -> Iterator[tuple[str, Pointer]]:
    """Where a flag and its arms name a revision, and which."""
    for path, holder in [("spec", spec), *((f"spec.arms.{position}", arm) for position, arm in enumerate(spec.get("arms", [])))]:
        if "profile" in holder and "revision" in holder:
            yield path, (holder["profile"], holder["revision"])
