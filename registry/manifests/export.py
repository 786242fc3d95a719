"""Export: the record as manifests. Applying an export to the record it was made of plans to nothing."""

from collections.abc import Iterable
from typing import Any

from registry.manifests.kind import API_VERSION
from registry.manifests.kinds import KINDS
from registry.manifests.steps import Recorded
from registry.models import Declaration


def export_manifests(
    *, kinds: Iterable[str] = (), names: Iterable[str] = (), manager: str | None = None, with_status: bool = False
) -> list[dict[str, Any]]:
    """Documents in the order of kinds and names. Tokens, passwords and keys are of no kind, so none can be in it."""
    documents = []
    for kind in [KINDS[name] for name in KINDS if not kinds or name in set(kinds)]:
        recorded = kind.read(set(names) or None)
        declarations = {row.name: row for row in Declaration.objects.in_force().filter(kind=kind.name, name__in=recorded)}
        conditions = kind.judge({name: found.row for name, found in recorded.items()}) if with_status else {}
        for name, found in sorted(recorded.items()):
            declaration = declarations.get(name)
            owner, labels = (declaration.manager, declaration.labels) if declaration else ("", {})
            if manager is None or owner == manager:
                metadata = {"name": name} | ({"labels": labels} if labels else {}) | ({"manager": owner} if owner else {})
                spec = {field: found.spec[field] for field in kind.spec["properties"] if field in found.spec}
                document = {"apiVersion": API_VERSION, "kind": kind.name, "metadata": metadata} | ({"spec": spec} if spec else {})
                if with_status:
                    document["status"] = _describe_status(found, declaration) | {"conditions": conditions.get(name, [])}
                documents.append(document)
    return documents


def _describe_status(found: Recorded[Any], declaration: Declaration | None) -> dict[str, Any]:
    """Server-owned: given by an export, ignored in what is applied."""
    # A recipe is only seen to when its job has ended; everything else was when it was applied.
    generation = declaration.generation if declaration else 0
    return {"generation": generation, "observedGeneration": generation - (not found.is_finished)} if declaration else {}
