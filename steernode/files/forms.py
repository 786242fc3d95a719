"""Forms: what a folder of weights was made from, as `steerhub-form.json` in it says. The file is part of the fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steernode.canonical import canonical_json, parse_strict
from steernode.errors import CanonicalError, FieldError, ModelError
from steernode.strict import read_digest, read_exactly, read_integer, read_one_of, read_text

FORM_FILE = "steerhub-form.json"
SCHEMA = "steerhub.form/1"
KINDS = ("dequantised",)
FORMATS = ("gguf",)
DTYPES = ("float32", "float16", "bfloat16")
_MAX_BYTES = 64 * 1024
_MAX_NAMES = 100


@dataclass(frozen=True, slots=True)
class Form:
    """`tensor_types` counts the tensors of each type in the file it was made from; `packages` are those that read it, with versions."""

    kind: str
    format: str
    name: str
    sha256: str
    bytes: int
    tensor_types: Mapping[str, int]
    dtype: str
    converter: str
    version: str
    packages: Mapping[str, str]

    def to_document(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "source": {"format": self.format, "name": self.name, "sha256": self.sha256, "bytes": self.bytes},
            "tensor_types": dict(sorted(self.tensor_types.items())),
            "dtype": self.dtype,
            "converter": {"name": self.converter, "version": self.version, "packages": dict(sorted(self.packages.items()))},
        }

    def describe(self) -> str:
        types = ", ".join(f"{name} × {count}" for name, count in sorted(self.tensor_types.items()))
        return f"{self.kind} to {self.dtype} from {self.name} ({self.sha256[:12]}; {types})"


def read_form(folder: Path) -> Form | None:
    """What the folder says that it was made from; None if it says nothing. Raises: ModelError MODEL_FORM."""
    path = folder / FORM_FILE
    if not path.is_file():
        return None
    try:
        return parse_form(parse_strict(path.read_bytes(), max_bytes=_MAX_BYTES, max_depth=4))
    except (CanonicalError, FieldError) as error:
        raise ModelError("MODEL_FORM", f"{FORM_FILE}: {error.message}", FORM_FILE) from error


def parse_form(document: Any) -> Form:
    """Raises: FieldError."""
    read_exactly(document, "form", ("schema", "kind", "source", "tensor_types", "dtype", "converter"))
    read_one_of(document["schema"], "form.schema", (SCHEMA,))
    source, converter = document["source"], document["converter"]
    read_exactly(source, "form.source", ("format", "name", "sha256", "bytes"))
    read_exactly(converter, "form.converter", ("name", "version", "packages"))
    return Form(
        kind=read_one_of(document["kind"], "form.kind", KINDS),
        format=read_one_of(source["format"], "form.source.format", FORMATS),
        name=read_text(source["name"], "form.source.name"),
        sha256=read_digest(source["sha256"], "form.source.sha256"),
        bytes=read_integer(source["bytes"], "form.source.bytes", least=1),
        tensor_types={
            name: read_integer(count, f"form.tensor_types.{name}", least=1)
            for name, count in _read_names(document["tensor_types"], "form.tensor_types")
        },
        dtype=read_one_of(document["dtype"], "form.dtype", DTYPES),
        converter=read_text(converter["name"], "form.converter.name"),
        version=read_text(converter["version"], "form.converter.version"),
        packages={
            name: read_text(version, f"form.converter.packages.{name}")
            for name, version in _read_names(converter["packages"], "form.converter.packages")
        },
    )


def describe_form(manifest: Mapping[str, Any]) -> str:
    """Of the document that a fingerprint covers, in words; empty for weights that are as they were published."""
    made_from = parse_form(manifest["form"]).describe() if "form" in manifest else ""
    return ", ".join(filter(None, (made_from, str(manifest.get("quantization", "")))))


def write_form(folder: Path, form: Form) -> None:
    (folder / FORM_FILE).write_bytes(canonical_json(form.to_document()))


def _read_names(value: Any, path: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict) or not 1 <= len(value) <= _MAX_NAMES:
        raise FieldError(path, f"must be an object of 1 to {_MAX_NAMES} names")
    return [(read_text(name, f"a name in {path}"), child) for name, child in value.items()]
