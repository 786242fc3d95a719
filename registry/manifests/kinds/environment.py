"""Environment: where nodes live, and which base models it serves."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from django.db.models import QuerySet

from registry.manifests.accounts import Consequences, Fleet, Risk, StatusCondition, condition
from registry.manifests.documents import Fault, Manifest
from registry.manifests.fields import NAME_PATTERN, Spec, digest, mapping, slug
from registry.manifests.kind import Index, Kind, Reference, References, Writer
from registry.manifests.kinds.base_model import BaseModels
from registry.manifests.steps import CHANGING, Step
from registry.models import BaseModel, Environment, ProfileRevision, RevisionState, Role, TenantFlag
from registry.reads.fleet import standings
from registry.services.base_model_moves import move_environment
from registry.services.tenants import create_environment


class Environments(Kind[Environment, Index[Environment]]):
    name = "Environment"
    about = "Where nodes live."
    roles = (Role.OPERATOR,)
    spec = mapping(
        "What it serves.",
        optional={
            "baseModels": {
                "type": "object",
                "description": "By the name of a base model, the fingerprint that is served. Names left out stay as they are.",
                "propertyNames": {"pattern": NAME_PATTERN, "maxLength": 100},
                "additionalProperties": digest("A registered fingerprint."),
                "maxProperties": 1000,
            }
        },
    )
    object_name = slug("Unique among environments.", max_length=50)
    retained = "its snapshots stay on record"
    left_alone = ("baseModels",)
    model = Environment
    index = Index[Environment]

    def records(self) -> "QuerySet[Environment]":
        return Environment.objects.prefetch_related("served__base_model")

    def render(self, row: Environment) -> Spec:
        served = sorted(row.served.all(), key=lambda served: served.name)
        return {"baseModels": {each.name: each.base_model.fingerprint for each in served}}

    def references(self, manifest: Manifest) -> Iterator[Reference]:
        for name, fingerprint in manifest.spec.get("baseModels", {}).items():
            yield Reference(BaseModels.name, f"spec.baseModels.{name}", f"{name}@{fingerprint}")

    def find_missing(self, manifest: Manifest, references: References) -> list[Fault]:
        """A fault for each fingerprint that is neither on record nor declared: which one a folder holds is known too late to serve it."""
        known = references.of(BaseModels)
        missing = [reference for reference in self.references(manifest) if not known.knows(*reference.text.split("@"))]
        message = "no base model {!r} has this fingerprint on record or in these manifests"
        return [manifest.fault(reference.path, "MANIFEST_REFERENCE", message.format(reference.name)) for reference in missing]

    def govern(self, recorded: Spec, wanted: Spec) -> Spec:
        """Name by name."""
        if "baseModels" not in wanted:
            return {}
        return {"baseModels": {name: value for name, value in recorded["baseModels"].items() if name in wanted["baseModels"]}}

    def write(self, step: Step, writer: Writer) -> None:
        environment = create_environment(step.name, actor=writer.actor)
        served = dict(environment.served.values_list("name", "base_model__fingerprint"))
        for name, fingerprint in step.spec.get("baseModels", {}).items():
            if served.get(name) != fingerprint:
                base_model = BaseModel.objects.get(name=name, fingerprint=fingerprint)
                move_environment(environment, base_model=base_model, actor=writer.actor)

    def judge(self, rows: Mapping[str, Environment]) -> Mapping[str, list[StatusCondition]]:
        nodes = standings(rows.values())

        def judge(name: str, row: Environment) -> StatusCondition:
            here = nodes[name]
            others = Counter(state for _, state in here.others)
            shown = ", ".join(f"{others[state]} {state}" for state in sorted(others))
            message = f"head revision {row.head_revision}" + (f"; {shown}" if others else "")
            return condition("Converged", not others, f"{here.in_step}of{len(here.nodes)}", message)

        return {name: [judge(name, row)] for name, row in rows.items()}

    def weigh(self, steps: Sequence[Step], references: References) -> Consequences:
        told = {step.name: frozenset[str]() for step in steps if step.action in CHANGING and step.recorded}
        return replace(super().weigh(steps, references), reach=told)

    def find_risks(self, step: Step) -> Iterator[Risk]:
        """What moving to another fingerprint takes with it."""
        for before in [change.before for change in step.changes if change.before and change.field.startswith("spec.baseModels.")]:
            on = TenantFlag.objects.filter(environment__name=step.name, enabled=True, revision__base_model__fingerprint=before).count()
            approved = ProfileRevision.objects.filter(base_model__fingerprint=before, state=RevisionState.APPROVED).count()
            message = f"turns off {on} flags; {approved} approved revisions are for the fingerprint that it leaves"
            yield Risk("BASE_MODEL_CHANGE", message)

    def find_told(self, step: Step, fleet: Fleet) -> tuple[str, str, bool]:
        if step.name not in fleet.heads:
            return super().find_told(step, fleet)
        return f"r{fleet.heads[step.name].revision}", *fleet.convergence(step.name)
