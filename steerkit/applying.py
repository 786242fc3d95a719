"""Reading manifests from YAML files: strictly, and with every file they name uploaded first.

A coefficient written as 0.30 reaches the hub as the text '0.30', never as a binary fraction: what is digested is what was
written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from steerkit.canonical import canonical_json
from steerkit.errors import CanonicalError, ManifestError

KINDS = ("BaseModel", "ContrastSet", "EvalSuite", "SteeringRecipe", "SteeringProfile", "Tenant", "Environment")
MAX_MANIFEST_BYTES = 1024 * 1024
MAX_UPLOAD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ManifestDocument:
    """One document and the file it stands in."""

    path: Path
    document: dict[str, Any]


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader without YAML 1.1's surprises: no duplicate keys, no aliases, no yes/no booleans, no dates, no binary floats."""

    yaml_implicit_resolvers = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ManifestError("MANIFEST_YAML", f"{_where(mark)}: an alias; write the value out", _where(mark))
        return super().compose_node(parent, index)


def _construct_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise ManifestError("MANIFEST_YAML", f"{_where(key_node.start_mark)}: key {key!r} is not text", _where(key_node.start_mark))
        if key in mapping:
            raise ManifestError(
                "MANIFEST_DUPLICATE_KEY", f"{_where(key_node.start_mark)}: key {key!r} appears twice", _where(key_node.start_mark)
            )
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


def _where(mark: Any) -> str:
    return f"{mark.name} line {mark.line + 1} column {mark.column + 1}"


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
# The plain scalars that are not text. A number with a fraction stays the text it was written as.
_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^-?(?:0|[1-9][0-9]*)$"), list("-0123456789"))
_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:null|~|)$"), ["n", "~", ""])


def read_manifests(source: Path) -> list[ManifestDocument]:
    """The documents of one file, or of every .yaml and .yml file of a folder, in the order of their names.

    Raises: ManifestError MANIFEST_MISSING, MANIFEST_YAML, MANIFEST_DUPLICATE_KEY, MANIFEST_KIND.
    """
    paths = (
        [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.suffix in (".yaml", ".yml") and path.is_file())
    )
    documents = [ManifestDocument(path, document) for path in paths for document in _read_file(path)]
    if not documents:
        raise ManifestError("MANIFEST_MISSING", f"{source} holds no manifest; write one in a .yaml file", str(source))
    return documents


def _read_file(path: Path) -> list[dict[str, Any]]:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
        if len(data) > MAX_MANIFEST_BYTES:
            raise ManifestError("MANIFEST_YAML", f"{path} has {len(data)} bytes, at most {MAX_MANIFEST_BYTES} are read", str(path))
        loader = _StrictLoader(text)
        loader.name = str(path)
        documents = []
        while loader.check_data():  # type: ignore[no-untyped-call]
            documents.append(loader.get_data())
    except OSError as error:
        raise ManifestError("MANIFEST_MISSING", f"cannot read {path}: {error.strerror or error}", str(path)) from error
    except UnicodeDecodeError as error:
        raise ManifestError("MANIFEST_YAML", f"{path} is not UTF-8 at byte {error.start}", str(path)) from error
    except yaml.MarkedYAMLError as error:
        where = _where(error.problem_mark) if error.problem_mark else str(path)
        raise ManifestError("MANIFEST_YAML", f"{where}: {error.problem or error.context}", where) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ManifestError("MANIFEST_YAML", f"{path} is not YAML that can be read: {type(error).__name__}", str(path)) from error
    return [_check_document(document, path) for document in documents if document is not None]


def _check_document(document: Any, path: Path) -> dict[str, Any]:
    if not isinstance(document, dict) or document.get("kind") not in KINDS:
        kind = document.get("kind") if isinstance(document, dict) else type(document).__name__
        raise ManifestError("MANIFEST_KIND", f"{path}: kind {kind!r} is not known; known are {', '.join(KINDS)}", str(path))
    try:
        canonical_json(document)
    except CanonicalError as error:
        raise ManifestError("MANIFEST_YAML", f"{path}: {error.message}", str(path)) from error
    return document


def upload_files(documents: list[ManifestDocument], root: Path, upload: Callable[[bytes], str]) -> list[dict[str, Any]]:
    """The documents with every `file: path` replaced by `digest: ...`, once its bytes are uploaded.

    A path is relative to its manifest and must stay within the folder above `root`: a manifest from a repository may name
    the data beside it, not any file of the machine it is applied on. Raises: ManifestError MANIFEST_FILE.
    """
    boundary = (root if root.is_dir() else root.parent).resolve().parent
    digests: dict[Path, str] = {}

    def replace(value: Any, manifest: Path) -> Any:
        if isinstance(value, list):
            return [replace(item, manifest) for item in value]
        if not isinstance(value, dict):
            return value
        if "file" not in value:
            return {key: replace(item, manifest) for key, item in value.items()}
        if set(value) != {"file"} or not isinstance(value["file"], str):
            raise ManifestError("MANIFEST_FILE", f"{manifest}: a file reference has just the field 'file', a path", str(manifest))
        path = (manifest.parent / value["file"]).resolve()
        if path not in digests:
            digests[path] = upload(_read_upload(path, value["file"], manifest, boundary))
        return {"digest": digests[path]}

    return [replace(entry.document, entry.path) for entry in documents]


def _read_upload(path: Path, written: str, manifest: Path, boundary: Path) -> bytes:
    if not path.is_relative_to(boundary):
        raise ManifestError("MANIFEST_FILE", f"{manifest}: {written!r} lies outside {boundary}", written)
    if not path.is_file():
        raise ManifestError("MANIFEST_FILE", f"{manifest}: there is no file {written!r}", written)
    if path.stat().st_size > MAX_UPLOAD_BYTES:
        raise ManifestError("MANIFEST_FILE", f"{manifest}: {written!r} is larger than {MAX_UPLOAD_BYTES} bytes", written)
    return path.read_bytes()
