"""The shape of a manifest, checked whole before anything is applied. An unknown field is an error, not a wish."""

from dataclasses import dataclass
from typing import Any

from registry.errors import InvalidInput
from registry.models.fields import NAME

API_VERSION = "steerhub/v1"

# Kinds in the order they are applied, each with its required and its optional spec fields.
KINDS: dict[str, tuple[set[str], set[str]]] = {
    "Environment": (set(), set()),
    "Tenant": (set(), {"title"}),
    "BaseModel": ({"source"}, set()),
    "ContrastSet": ({"axis", "pairs"}, set()),
    "EvalSuite": ({"kind", "items"}, {"rubric"}),
    "SteeringProfile": ({"intent", "purpose", "axis", "riskClass"}, set()),
    "SteeringRecipe": (
        {"baseModel", "contrastSet", "suites"},
        {"method", "site", "readPosition", "layers", "alphas", "unit", "gates", "seed", "maxNewTokens", "dtype", "finalists"},
    ),
}
# Where a file was uploaded and its digest took its place.
_BLOB_FIELDS = ("pairs", "items", "rubric")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document: what kind of record, its name, and what it should be."""

    kind: str
    name: str
    spec: dict[str, Any]


def parse_manifests(documents: list[Any]) -> list[Manifest]:
    """The documents in the order they are applied. Raises: InvalidInput MANIFEST_* naming the document and the field."""
    manifests = [_parse(document, f"document {position}") for position, document in enumerate(documents, start=1)]
    seen: set[tuple[str, str]] = set()
    for manifest in manifests:
        if (manifest.kind, manifest.name) in seen:
            raise InvalidInput("MANIFEST_DUPLICATE", f"{manifest.kind} {manifest.name} is declared twice", manifest.name)
        seen.add((manifest.kind, manifest.name))
    order = list(KINDS)
    return sorted(manifests, key=lambda manifest: order.index(manifest.kind))


def _parse(document: Any, where: str) -> Manifest:
    if not isinstance(document, dict):
        raise InvalidInput("MANIFEST_SHAPE", f"{where} is not a mapping", where)
    _check_fields(document, {"apiVersion", "kind", "metadata"}, {"spec"}, where)
    if document["apiVersion"] != API_VERSION:
        raise InvalidInput("MANIFEST_VERSION", f"{where} has apiVersion {document['apiVersion']!r}; this hub reads {API_VERSION}", where)
    kind = document["kind"]
    if kind not in KINDS:
        raise InvalidInput("MANIFEST_KIND", f"{where} has the kind {kind!r}; known are {', '.join(KINDS)}", str(kind))
    metadata = document["metadata"]
    if not isinstance(metadata, dict):
        raise InvalidInput("MANIFEST_SHAPE", f"{where}: metadata is not a mapping", where)
    _check_fields(metadata, {"name"}, {"labels"}, f"{where} metadata")
    name = metadata["name"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidInput("MANIFEST_NAME", f"{where} needs a name of letters, digits, '-' and '_', got {name!r}", where)
    where = f"{kind} {name}"
    spec = document.get("spec") or {}
    if not isinstance(spec, dict):
        raise InvalidInput("MANIFEST_SHAPE", f"{where}: spec is not a mapping", where)
    _check_fields(spec, *KINDS[kind], f"{where} spec")
    for field in _BLOB_FIELDS:
        if field in spec and not (isinstance(spec[field], dict) and isinstance(spec[field].get("digest"), str)):
            raise InvalidInput(
                "MANIFEST_FILE", f"{where}: {field} is not an uploaded file; `steer apply` uploads what `file:` names", field
            )
    return Manifest(kind, name, spec)


def _check_fields(mapping: dict[str, Any], required: set[str], optional: set[str], where: str) -> None:
    for field in mapping:
        if field not in required | optional:
            raise InvalidInput("MANIFEST_UNKNOWN_FIELD", f"{where} has an unknown field {field!r}", str(field))
    for field in sorted(required - set(mapping)):
        raise InvalidInput("MANIFEST_MISSING_FIELD", f"{where} lacks {field!r}", field)
