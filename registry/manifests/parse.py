"""Read manifests: every document is held against the schema of its kind before anything is looked up or changed.

Every fault of every document is told at once, each with the path of its field; `steer` turns the path into file, line and column.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, validators
from jsonschema.exceptions import ValidationError

from registry.errors import InvalidInput
from registry.manifests.documents import MAX_FAULTS, Fault, Manifest, ManifestsRefused
from registry.manifests.fields import Schema
from registry.manifests.kind import API_VERSION
from registry.manifests.kinds import KINDS
from registry.services.profiles import check_purpose
from steernode.canonical import format_decimal, parse_alpha
from steernode.errors import AlphaError, SpellingError, SteerError
from steernode.spelling import normal_form, spell


def parse_manifests(documents: list[Any]) -> list[Manifest]:
    """The documents as manifests, in their order. Raises: ManifestsRefused with MANIFEST_* faults."""
    faults: list[Fault] = []
    manifests = []
    for position, document in enumerate(documents):
        if len(faults) >= MAX_FAULTS:
            break
        found = list(islice(_find_faults(document, position), MAX_FAULTS))
        faults += found
        if not found:
            manifests.append(_read(document, position))
    seen: set[tuple[str, str]] = set()
    for manifest in manifests:
        if (manifest.kind, manifest.name) in seen:
            faults.append(manifest.fault("metadata.name", "MANIFEST_DUPLICATE", "declared twice"))
        seen.add((manifest.kind, manifest.name))
    if faults:
        raise ManifestsRefused(faults)
    return manifests


def _read(document: dict[str, Any], position: int) -> Manifest:
    whole = _fill(_schema(document["kind"]), document)
    metadata = whole["metadata"]
    return Manifest(position, whole["kind"], metadata["name"], metadata["labels"], metadata["manager"], whole["spec"])


def _fill(schema: Schema, value: Any) -> Any:
    """The value with the schema's defaults filled in and its coefficients in their one decimal form."""
    if "oneOf" in schema:
        schema = next(branch for branch in schema["oneOf"] if _checker().is_type(value, branch["type"]))
    if schema.get("format") == "decimal":
        return format_decimal(parse_alpha(value))
    if schema.get("format") == "measure":
        return str(value)
    if schema.get("format") == "spelled":
        return normal_form(value)
    if isinstance(value, list) and "items" in schema:
        return [_fill(schema["items"], item) for item in value]
    if isinstance(value, dict) and "properties" in schema:
        fields = schema["properties"]
        defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
        given = {**defaults, **value}
        return {name: _fill(fields[name], given[name]) for name in fields if name in given}
    return value


def _find_faults(document: Any, position: int) -> Iterator[Fault]:
    where = f"documents.{position}"
    if not isinstance(document, dict):
        yield Fault(where, "MANIFEST_SHAPE", f"document {position + 1} is not a mapping")
    elif document.get("kind") not in KINDS:
        yield Fault(f"{where}.kind", "MANIFEST_KIND", f"the kind {_show(document.get('kind'))} is not known; known are {', '.join(KINDS)}")
    elif document.get("apiVersion") != API_VERSION:
        shown = _show(document.get("apiVersion"))
        yield Fault(f"{where}.apiVersion", "MANIFEST_VERSION", f"apiVersion is {shown}; this hub reads {API_VERSION}")
    else:
        metadata = document.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        title = f"{document['kind']} {name}" if isinstance(name, str) else f"{document['kind']} in document {position + 1}"
        told: set[str] = set()
        for error in _checker(document["kind"]).iter_errors(document):
            for path, code, message in _describe(error):
                field = ".".join([where, *(str(part) for part in path)])
                # The first fault of a field is the plainest one.
                if field not in told:
                    told.add(field)
                    yield Fault(field, code, f"{title}: {message}")


def _describe(error: ValidationError) -> Iterator[tuple[list[Any], str, str]]:
    """Path, code and sentence of what a schema found wrong."""
    path, wanted = list(error.absolute_path), error.validator_value
    here = ".".join(map(str, path)) or "the document"
    if error.validator == "additionalProperties" and isinstance(wanted, bool):
        known = error.schema["properties"]
        for name in error.instance:
            if name not in known:
                message = f"unknown field {_show(name)} in {here}; known are {', '.join(known) or 'none'}"
                yield [*path, name], "MANIFEST_UNKNOWN_FIELD", message
    elif error.validator == "required":
        for name in wanted:
            if name not in error.instance:
                yield [*path, name], "MANIFEST_MISSING_FIELD", f"{here} lacks {name!r}"
    elif error.validator == "format" and isinstance(error.cause, SteerError):
        yield path, error.cause.code, f"{here}: {error.cause.message}"
    elif error.validator == "format":
        yield path, "MANIFEST_FILE", f"{here} is not an uploaded file; `steer` uploads what `file:` names"
    else:
        yield path, "MANIFEST_VALUE", f"{here} is {_show(error.instance)}; want {_want(error)}"


def _want(error: ValidationError) -> str:
    wanted, schema = error.validator_value, error.schema
    match error.validator:
        case "type":
            types = wanted if isinstance(wanted, list) else [wanted]
            return " or ".join(_TYPES[kind] for kind in types)
        case "enum":
            return f"one of {', '.join(wanted)}"
        case "const":
            return repr(wanted)
        case "pattern":
            return _PATTERNS.get(wanted) or schema.get("description") or f"what matches {wanted}"
        case "minimum" | "maximum":
            return f"{schema['minimum']} to {schema['maximum']}"
        case "minLength" | "maxLength":
            return f"{schema.get('minLength', 0)} to {schema['maxLength']} characters"
        case "minItems" | "maxItems":
            return f"{schema['minItems']} to {schema['maxItems']} of them"
        case "uniqueItems":
            return "no two alike"
        case "minProperties" | "maxProperties" if "properties" in schema:
            return f"exactly one of {', '.join(schema['properties'])}"
        case "oneOf":
            return " or ".join(_want_branch(branch) for branch in wanted)
        case _:
            return f"what {error.validator} {wanted!r} allows"


def _want_branch(branch: Schema) -> str:
    if "const" in branch or "enum" in branch:
        return " or ".join(repr(value) for value in branch.get("enum", [branch.get("const")]))
    return f"a list of {branch['minItems']} to {branch['maxItems']}"


_TYPES = {
    "string": "text",
    "number": "a decimal number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}
_PATTERNS: dict[str, str] = {"^[A-Za-z0-9][A-Za-z0-9_-]*$": "letters, digits, '-' and '_', starting with a letter or digit"}


def _show(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else f"a list of {len(value)}"
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


@cache
def _schema(kind: str) -> Schema:
    return KINDS[kind].schema()


@cache
def _checker(kind: str = "") -> Draft202012Validator:
    formats = FormatChecker(formats=())
    formats.checks("decimal", raises=AlphaError)(_is_decimal)
    formats.checks("purpose", raises=InvalidInput)(_is_purpose)
    formats.checks("uploaded")(_is_uploaded)
    formats.checks("spelled", raises=SpellingError)(_is_spelled)
    return _Validator(_schema(kind) if kind else {}, format_checker=formats)


def _match_whole(_validator: Any, pattern: str, value: Any, _schema: Schema) -> Iterator[ValidationError]:
    """Every pattern here is anchored. Python's `$` would let a line break pass at the end, where ECMAScript's does not."""
    if isinstance(value, str) and not re.fullmatch(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


_Validator = validators.extend(Draft202012Validator, {"pattern": _match_whole})


def _is_decimal(value: object) -> bool:
    # What is neither text nor a number is a fault of its type.
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        parse_alpha(value)  # type: ignore[arg-type]  # a float it refuses itself
    return True


def _is_purpose(value: object) -> bool:
    # What steering cannot do is refused with the technique that can, which says more than the list of purposes.
    if isinstance(value, str):
        check_purpose(value)
    return True


def _is_spelled(value: object) -> bool:
    if isinstance(value, str):
        spell(value, "the name")
    return True


def _is_uploaded(value: object) -> bool:
    return not isinstance(value, dict) or set(value) != {"file"}
