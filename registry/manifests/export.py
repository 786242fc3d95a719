"""Export: the record as manifests. Applying an export to the record it was made of plans to nothing."""

from collections.abc import Iterable
from typing import Any

from registry.manifests.kinds import API_VERSION, KINDS
from registry.manifests.render import Recorded, read_recorded
from registry.manifests.status import Statuses
from registry.models import Declaration


def export_manifests(
    *, kinds: Iterable[str] = (), names: Iterable[str] = (), manager: str | None = None, with_status: bool = False
) -> list[dict[str, Any]]:
    """Documents in the order of kinds and names. Tokens, passwords and keys are of no kind, so none can be in it."""
    wanted = [kind for kind in KINDS if not kinds or kind in set(kinds)]
    documents = []
    for kind in wanted:
        recorded = read_recorded(kind, set(names) or None)
        declarations = {row.name: row for row in Declaration.objects.filter(kind=kind, name__in=recorded).exclude(spec_digest="")}
        statuses = Statuses(kind, recorded, declarations) if with_status else None
        for name, found in recorded.items():
            declaration = declarations.get(name)
            if manager is None or (declaration.manager if declaration else "") == manager:
                document = _render(kind, name, found, declaration)
                documents.append({**document, "status": statuses.of(name)} if statuses else document)
    return documents


def _render(kind: str, name: str, found: Recorded, declaration: Declaration | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if declaration is not None and declaration.labels:
        metadata["labels"] = declaration.labels
    if declaration is not None and declaration.manager:
        metadata["manager"] = declaration.manager
    spec = {field: found.spec[field] for field in KINDS[kind].spec["properties"] if field in found.spec}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, **({"spec": spec} if spec else {})}
