"""Manifests as YAML files: read strictly, with the place of every field, and with every file they name uploaded first.

Which files of a folder are manifests is in `folders`.

A coefficient written as 0.30 reaches the hub as the text '0.30', never as a binary fraction: what is digested is what was
written. The hub knows what a field may say; this knows in which line and column it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from steernode.errors import HubError, ManifestError
from steernode.hub.folders import find_manifest_files
from steernode.yamltext import Places, read_yaml

# Twice what a hub exports at most: its text has other line ends and quotes than the JSON it came as.
MAX_MANIFEST_BYTES = 32 * 1024 * 1024
MAX_UPLOAD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ManifestDocument:
    """One document, the file it stands in, and where: line and column by the path of a field, such as spec.alphas.2."""

    path: Path
    document: dict[str, Any]
    places: Places

    def locate(self, field: str) -> str:
        """File, line and column of a field; of the mapping it is missing from, if it is not there."""
        while field and field not in self.places:
            field = field.rpartition(".")[0]
        line, column = self.places[field]
        return f"{self.path} line {line} column {column}"


def read_manifests(source: Path, *, skipped: Callable[[str], None] = lambda _sentence: None) -> list[ManifestDocument]:
    """The documents of one file, or of every YAML file of a folder, in the order of their names.

    `skipped` is told of each file of the folder that looks like a manifest and is left out, and why.
    Raises: ManifestError MANIFEST_MISSING, MANIFEST_YAML, MANIFEST_DUPLICATE_KEY, MANIFEST_BOOLEAN, MANIFEST_SHAPE.
    """
    paths = [source] if source.is_file() else find_manifest_files(source, skipped)
    documents = [ManifestDocument(path, *read) for path in paths for read in read_yaml(path, MAX_MANIFEST_BYTES)]
    if not documents:
        raise ManifestError("MANIFEST_MISSING", f"{source} holds no manifest; write one in a .yaml file", str(source))
    return documents


def explain_refusal(error: HubError, documents: Sequence[ManifestDocument]) -> Iterator[tuple[str, str]]:
    """(code, sentence) for each fault that the hub found, with file, line and column in place of its field's path."""
    for fault in error.problem.get("errors") or [{"field": "", "code": error.code, "message": error.message}]:
        match = re.fullmatch(r"documents\.(?P<position>[0-9]{1,6})(?:\.(?P<field>.*))?", str(fault.get("field")), re.DOTALL)
        where = documents[int(match["position"])].locate(match["field"] or "") if match and int(match["position"]) < len(documents) else ""
        message = str(fault.get("message") or error.message)
        yield str(fault.get("code") or error.code), f"{where}: {message}" if where else message


def upload_files(documents: Sequence[ManifestDocument], root: Path, upload: Callable[[bytes], str]) -> list[dict[str, Any]]:
    """The documents with every `file: path` replaced by `digest: ...`, once its bytes are uploaded.

    A path is relative to its manifest and must stay within the folder above `root`: a manifest from a repository may name
    the data beside it, not any file of the machine it is applied on. Raises: ManifestError MANIFEST_FILE.
    """
    boundary = (root if root.is_dir() else root.parent).resolve().parent
    digests: dict[Path, str] = {}

    def replace(value: Any, field: str, entry: ManifestDocument) -> Any:
        if isinstance(value, list):
            return [replace(item, f"{field}.{position}", entry) for position, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if "file" not in value:
            return {key: replace(item, f"{field}.{key}" if field else key, entry) for key, item in value.items()}
        where = entry.locate(f"{field}.file")
        if set(value) != {"file"} or not isinstance(value["file"], str):
            raise ManifestError("MANIFEST_FILE", f"{where}: a file reference has just the field 'file', a path", where)
        path = (entry.path.parent / value["file"]).resolve()
        if path not in digests:
            digests[path] = upload(_read_upload(path, value["file"], where, boundary))
        return {"digest": digests[path]}

    # What a status says came from a hub and names no files of this machine.
    return [{key: value if key == "status" else replace(value, key, entry) for key, value in entry.document.items()} for entry in documents]


def _read_upload(path: Path, written: str, where: str, boundary: Path) -> bytes:
    if not path.is_relative_to(boundary):
        raise ManifestError("MANIFEST_FILE", f"{where}: {written!r} lies outside {boundary}", written)
    if not path.is_file():
        raise ManifestError("MANIFEST_FILE", f"{where}: there is no file {written!r}", written)
    if path.stat().st_size > MAX_UPLOAD_BYTES:
        raise ManifestError("MANIFEST_FILE", f"{where}: {written!r} is larger than {MAX_UPLOAD_BYTES} bytes", written)
    return path.read_bytes()


class _Writer(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # which of the two is known only at run time
    """YAML that `read_manifests` reads back as the same documents."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_manifests(documents: Sequence[dict[str, Any]]) -> str:
    """The documents as one YAML text, their fields in the order given."""
    return yaml.dump_all(documents, Dumper=_Writer, sort_keys=False, allow_unicode=True, explicit_start=True, width=120)
