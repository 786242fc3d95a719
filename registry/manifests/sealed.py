"""Sealed kinds go forward only: what was version 1 cannot become the latest again under the same name."""

from collections.abc import Iterable

from registry.manifests.documents import Fault
from registry.manifests.render import render_contrast_set, render_suite, render_vector
from registry.manifests.steps import UPDATE, Step
from registry.models import ContrastSet, EvalSuite, SteeringVector

_VERSIONS = {
    "ContrastSet": (ContrastSet.objects.all(), render_contrast_set),
    "EvalSuite": (EvalSuite.objects.all(), render_suite),
    "SteeringVector": (
        SteeringVector.objects.select_related("base_model", "job__base_model", "job__contrast_set").prefetch_related("job__suites"),
        render_vector,
    ),
}


def find_superseded(steps: Iterable[Step]) -> list[Fault]:
    """A fault for each manifest that wants what an earlier version holds."""
    faults = []
    updates = [step for step in steps if step.action == UPDATE and step.changes_spec]
    for kind, (records, render) in _VERSIONS.items():
        wanted = {step.name: step for step in updates if step.kind == kind and step.manifest}
        # Only names that change are looked at, so this is a few rows and not the history of the registry.
        for row in records.filter(name__in=wanted):
            step = wanted[row.name]
            if render(row) == step.spec:
                message = f"this is version {row.version} again, and a later version came after it; give it a name of its own"
                faults.append(step.manifest.fault("spec", "MANIFEST_SUPERSEDED", message))
    return faults
