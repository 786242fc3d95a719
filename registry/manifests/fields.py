"""The words that kinds are declared in. Each gives the JSON Schema of one field; `manifest.py` checks documents by the same schema."""

from collections.abc import Sequence
from typing import Any

Schema = dict[str, Any]

NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9_-]*$"
_REFERENCE_PATTERN = "^[A-Za-z0-9][A-Za-z0-9_-]*(@[1-9][0-9]{0,8})?$"
_DECIMAL_PATTERN = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"
_DIGEST_PATTERN = "^[0-9a-f]{64}$"


def text(description: str, *, max_length: int, min_length: int = 1, **more: Any) -> Schema:
    return {"type": "string", "description": description, "minLength": min_length, "maxLength": max_length, **more}


def name(description: str, *, max_length: int = 100, **more: Any) -> Schema:
    """Letters, digits, '-' and '_': a name stands in addresses and file names."""
    return {"type": "string", "description": description, "pattern": NAME_PATTERN, "maxLength": max_length, **more}


def reference(description: str) -> Schema:
    """NAME, which means its latest version, or NAME@VERSION."""
    return {"type": "string", "description": description, "pattern": _REFERENCE_PATTERN, "maxLength": 110}


def digest(description: str) -> Schema:
    return {"type": "string", "description": description, "pattern": _DIGEST_PATTERN}


def choice(description: str, values: Sequence[str], **more: Any) -> Schema:
    return {"type": "string", "description": description, "enum": [str(value) for value in values], **more}


def whole(description: str, low: int, high: int, **more: Any) -> Schema:
    return {"type": "integer", "description": description, "minimum": low, "maximum": high, **more}


def switch(description: str, **more: Any) -> Schema:
    return {"type": "boolean", "description": description, **more}


def decimal(description: str, **more: Any) -> Schema:
    """A coefficient. `steer` sends 0.30 as the text '0.30', so that no binary fraction stands between a file and the record."""
    return {"type": ["string", "number"], "description": description, "format": "decimal", "pattern": _DECIMAL_PATTERN, **more}


FILE_FIELDS: dict[str, Schema] = {
    "file": {"type": "string", "description": "Its path, from the manifest's folder."},
    "digest": digest("The sha256 of its bytes, where they are uploaded already."),
}


def measure(description: str) -> Schema:
    """A measured number, kept as it is written. A whole number needs no quotes."""
    return {"type": ["string", "integer"], "description": description, "format": "measure", "pattern": _DECIMAL_PATTERN, "maxLength": 62}


def file(description: str) -> Schema:
    """A file beside the manifest. `steer` uploads it and sends its digest; an export names the digest."""
    return {
        "type": "object",
        "description": description,
        "properties": FILE_FIELDS,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
        "format": "uploaded",
    }


def list_of(description: str, items: Schema, *, low: int = 0, high: int, **more: Any) -> Schema:
    return {"type": "array", "description": description, "items": items, "minItems": low, "maxItems": high, **more}


def either(description: str, *branches: Schema, **more: Any) -> Schema:
    """One of several forms, told apart by their types."""
    return {"description": description, "oneOf": list(branches), **more}


def mapping(description: str, *, required: dict[str, Schema] | None = None, optional: dict[str, Schema] | None = None) -> Schema:
    """Exactly these fields. An unknown one is an error, not a wish."""
    return {
        "type": "object",
        "description": description,
        "properties": {**(required or {}), **(optional or {})},
        "required": list(required or {}),
        "additionalProperties": False,
    }


def camel_case(name: str) -> str:
    first, *words = name.split("_")
    return first + "".join(word.capitalize() for word in words)
