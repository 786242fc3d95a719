"""Sealed kinds go forward only: what was version 1 cannot become the latest again under the same name."""

from collections.abc import Iterable
from typing import Any

from registry.manifests.documents import Fault
from registry.manifests.render import render_contrast_set, render_suite, render_vector, with_recipes
from registry.manifests.steps import UPDATE, Step
from registry.models import ContrastSet, EvalSuite, SteeringVector

_VERSIONS = {
    "ContrastSet": (ContrastSet.objects.all(), render_contrast_set),
    "EvalSuite": (EvalSuite.objects.all(), render_suite),
    "SteeringVector": (with_recipes(SteeringVector.objects.all()), lambda row: _what_makes_it(render_vector(row))),
}


def _what_makes_it(spec: dict[str, Any]) -> dict[str, Any]:
    """The profile that a recipe ends as a draft of is no part of the vector: the same recipe for another makes the same bytes."""
    recipe = spec.get("recipe")
    return {"recipe": {name: value for name, value in recipe.items() if name != "profile"}} if recipe else spec


def find_superseded(steps: Iterable[Step]) -> list[Fault]:
    """A fault for each manifest that wants what an earlier version holds."""
    faults = []
    updates = [step for step in steps if step.action == UPDATE and step.changes_spec]
    for kind, (records, render) in _VERSIONS.items():
        wanted = {step.name: step for step in updates if step.kind == kind and step.manifest}
        # Only names that change are looked at, so this is a few rows and not the history of the registry.
        for row in records.filter(name__in=wanted):
            step = wanted[row.name]
            if render(row) == _what_makes_it(step.spec):
                message = f"this would be version {row.version} again; what is sealed goes forward only, so give it a name of its own"
                faults.append(step.manifest.fault("spec", "MANIFEST_SUPERSEDED", message))
    return faults
