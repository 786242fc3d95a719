"""GateSet: thresholds that evidence must meet, each with its reason."""

from registry.manifests.documents import Fault, Manifest
from registry.manifests.fields import Spec, decimal, list_of, mapping, text
from registry.manifests.kind import References, Writer
from registry.manifests.kinds.sealed import Sealed
from registry.manifests.steps import Step
from registry.models import GateSet, Role
from registry.services.gates import refuse_shipped, seal_gate_set
from steernode.errors import SteerError
from steernode.gates import MOST_GATES, declare_gates, gate_sets

# A recipe may list gates of its own, for which nobody else answers.
GATE = {
    "metric": text("What is measured.", max_length=100),
    "kind": text("How it is compared.", max_length=100),
    "threshold": decimal("With what."),
}


class GateSets(Sealed):
    name = "GateSet"
    about = "Thresholds that evidence must meet, by one name for recipes and risk policies. Other gates become the next version."
    roles = (Role.ADMIN, Role.APPROVER)
    spec = mapping(
        "The gates.",
        required={
            "about": text("What the set is for, and what suites it takes.", max_length=2000),
            "gates": list_of(
                "All must be met.",
                mapping("A threshold with its reason.", required={**GATE, "why": text("Why this, and why there.", max_length=1000)}),
                low=1,
                high=MOST_GATES,
            ),
        },
    )
    model = GateSet

    def render(self, row: GateSet) -> Spec:
        return {"about": row.about, "gates": row.gates}

    def resolve(self, manifest: Manifest, references: References) -> tuple[Spec, list[Fault]]:
        spec = manifest.spec
        try:
            refuse_shipped(manifest.name)
            return {"about": spec["about"], "gates": list(declare_gates(manifest.name, 1, **spec).reasoned)}, []
        except SteerError as error:
            path = "metadata.name" if error.code == "GATE_SET_TAKEN" else "spec.gates"
            return spec, [manifest.fault(path, error.code, error.message)]

    def write(self, step: Step, writer: Writer) -> None:
        seal_gate_set(step.name, about=step.spec["about"], gates=step.spec["gates"], author=writer.actor)


def complete_gates(reference: str, references: References) -> str:
    """A set that ships by its name; NAME of the organisation's own as NAME@VERSION."""
    return reference if reference in gate_sets() else references.of(GateSets).complete(reference)
