"""The words that kinds are declared in. Each gives the JSON Schema of one field, which documents are held against."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

from steernode.canonical import format_decimal
from steernode.words import MAX_TEMPLATE_ARGUMENTS, NO_TEMPLATE_ARGUMENTS

Schema = dict[str, Any]
Spec = dict[str, Any]

ARGUMENT_PATTERN = "^[A-Za-z][A-Za-z0-9_]{0,63}$"
NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9_-]*$"
_REFERENCE_PATTERN = "^[A-Za-z0-9][A-Za-z0-9_-]*(@[1-9][0-9]{0,8})?$"
_DECIMAL_PATTERN = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"
_DIGEST_PATTERN = "^[0-9a-f]{64}$"


def text(description: str, *, max_length: int, min_length: int = 1, **more: Any) -> Schema:
    return {"type": "string", "description": description, "minLength": min_length, "maxLength": max_length, **more}


def spelled(description: str, *, max_length: int, **more: Any) -> Schema:
    """Text that names something, in the one form of `steernode.spelling`."""
    return text(description, max_length=max_length, format="spelled", **more)


def slug(description: str, *, max_length: int = 100, **more: Any) -> Schema:
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


def measure(description: str) -> Schema:
    """A measured number, kept as it is written. A whole number needs no quotes."""
    return {"type": ["string", "integer"], "description": description, "format": "measure", "pattern": _DECIMAL_PATTERN, "maxLength": 62}


def file(description: str, **instead: Schema) -> Schema:
    """A file beside the manifest. `steer` uploads it and sends its digest; an export names the digest."""
    fields = {
        "file": {"type": "string", "description": "Its path, from the manifest's folder."},
        "digest": digest("The sha256 of its bytes, where they are uploaded already."),
    }
    return {
        "type": "object",
        "description": description,
        "properties": {**fields, **instead},
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


@cache
def snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def camel_case(name: str) -> str:
    first, *words = name.split("_")
    return first + "".join(word.capitalize() for word in words)


def arguments(description: str, **more: Any) -> Schema:
    """What a chat template is given, by name: text, whole numbers, true and false. Names stay as they are written."""
    return {
        "type": "object",
        "description": description,
        "propertyNames": {"pattern": ARGUMENT_PATTERN, "not": {"enum": list(NO_TEMPLATE_ARGUMENTS)}},
        "additionalProperties": {"type": ["string", "integer", "boolean"]},
        "maxProperties": MAX_TEMPLATE_ARGUMENTS,
        **more,
    }


class FieldMap:
    """Some fields as manifests write them (alphaMin: '0.5') and as the record does (alpha_min: Decimal), at every depth.

    With `as_text` a coefficient stays text on record too, as recipes keep theirs.
    """

    def __init__(self, fields: Mapping[str, Schema], *, as_text: bool = False) -> None:
        self.fields = fields
        self.as_text = as_text

    def to_record(self, spec: Spec) -> dict[str, Any]:
        """What the spec says of these fields, and nothing of others."""
        return {snake_case(name): self._to_record(field, spec[name]) for name, field in self.fields.items() if name in spec}

    def to_spec(self, record: Mapping[str, Any]) -> Spec:
        """The same back, in the order of the schema. What is None is left out."""
        found = {name: record.get(snake_case(name)) for name in self.fields}
        return {name: self._to_spec(self.fields[name], value) for name, value in found.items() if value is not None}

    def pick(self, row: object) -> dict[str, Any]:
        """What a row has in the columns of these fields."""
        return {snake_case(name): getattr(row, snake_case(name)) for name in self.fields}

    def _to_record(self, schema: Schema, value: Any) -> Any:
        schema = _branch(schema, value)
        if schema.get("format") == "decimal" and not self.as_text:
            return Decimal(value)
        if "items" in schema:
            return [self._to_record(schema["items"], item) for item in value]
        return FieldMap(schema["properties"], as_text=self.as_text).to_record(value) if "properties" in schema else value

    def _to_spec(self, schema: Schema, value: Any) -> Any:
        schema = _branch(schema, value)
        if isinstance(value, Decimal):
            return format_decimal(value)
        if "items" in schema:
            return [self._to_spec(schema["items"], item) for item in value]
        return FieldMap(schema["properties"]).to_spec(value) if "properties" in schema else value


def _branch(schema: Schema, value: Any) -> Schema:
    """The one form of `either` that a mapping or a list can have. Of several mappings none is taken: their fields are the reader's."""
    wanted = "properties" if isinstance(value, dict) else "items" if isinstance(value, list) else ""
    fitting = [branch for branch in schema.get("oneOf", []) if wanted in branch]
    return fitting[0] if len(fitting) == 1 else schema
