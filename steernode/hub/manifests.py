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
from typing import Any, ClassVar

import yaml

from steernode.canonical import canonical_json
from steernode.errors import CanonicalError, HubError, ManifestError
from steernode.hub.folders import find_manifest_files

# Twice what a hub exports at most: its text has other line ends and quotes than the JSON it came as.
MAX_MANIFEST_BYTES = 32 * 1024 * 1024
MAX_UPLOAD_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 32
# What YAML 1.1 reads as true and false, and people as the words they are.
_DISGUISED = re.compile(r"yes|no|on|off|true|false", re.ASCII | re.IGNORECASE)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)
# Half of a character outside the first 65,536, as JSON escapes it.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class ManifestDocument:
    """One document, the file it stands in, and where: line and column by the path of a field, such as spec.alphas.2."""

    path: Path
    document: dict[str, Any]
    places: dict[str, tuple[int, int]]

    def locate(self, field: str) -> str:
        """File, line and column of a field; of the mapping it is missing from, if it is not there."""
        while field and field not in self.places:
            field = field.rpartition(".")[0]
        line, column = self.places[field]
        return f"{self.path} line {line} column {column}"


class _PatientLoader(yaml.SafeLoader):
    """YAML without the surprises of version 1.1: a plain scalar is true, false, a whole number, null, or the text that it is."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]  # a variable of the class, whatever its stubs say


# The C parser is ten times as fast, and reads the same but for one thing: it refuses \ud83d\ude00, as JSON writes one character.
class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # which of the two is known only at run time
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _loader in (_PatientLoader, _StrictLoader):
    _loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"^(?:true|false)$"), list("tf"))
    _loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"^-?(?:0|[1-9][0-9]*)$"), list("-0123456789"))
    _loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"^(?:null|~|)$"), ["n", "~", ""])


def read_manifests(source: Path, *, skipped: Callable[[str], None] = lambda _sentence: None) -> list[ManifestDocument]:
    """The documents of one file, or of every YAML file of a folder, in the order of their names.

    `skipped` is told of each file of the folder that looks like a manifest and is left out, and why.
    Raises: ManifestError MANIFEST_MISSING, MANIFEST_YAML, MANIFEST_DUPLICATE_KEY, MANIFEST_BOOLEAN, MANIFEST_SHAPE.
    """
    paths = [source] if source.is_file() else find_manifest_files(source, skipped)
    documents = [document for path in paths for document in _read_file(path)]
    if not documents:
        raise ManifestError("MANIFEST_MISSING", f"{source} holds no manifest; write one in a .yaml file", str(source))
    return documents


def _read_file(path: Path) -> list[ManifestDocument]:
    try:
        data = path.read_bytes()
        if len(data) > MAX_MANIFEST_BYTES:
            raise ManifestError("MANIFEST_YAML", f"{path} has {len(data)} bytes, at most {MAX_MANIFEST_BYTES} are read", str(path))
        text = data.decode("utf-8")
        loader = _PatientLoader if _HALF.search(text) else _StrictLoader
        _check_characters(text, path)
        _check_events(text, path, loader)
        nodes = [node for node in yaml.compose_all(text, loader) if node is not None]
        return [document for node in nodes if (document := _read_document(node, path)) is not None]
    except OSError as error:
        raise ManifestError("MANIFEST_MISSING", f"cannot read {path}: {error.strerror or error}", str(path)) from error
    except UnicodeDecodeError as error:
        raise ManifestError("MANIFEST_YAML", f"{path} is not UTF-8 at byte {error.start}", str(path)) from error
    except yaml.MarkedYAMLError as error:
        where = _where(path, error.problem_mark) if error.problem_mark else str(path)
        raise ManifestError("MANIFEST_YAML", f"{where}: {error.problem or error.context}", where) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ManifestError("MANIFEST_YAML", f"{path} is not YAML that can be read: {type(error).__name__}", str(path)) from error


def _check_characters(text: str, path: Path) -> None:
    """Refuse what YAML has no place for, where it stands: the parser would give the position among all characters."""
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        where = f"{path} line {line} column {found.start() - text.rfind(chr(10), 0, found.start())}"
        raise ManifestError("MANIFEST_YAML", f"{where}: the character {found[0]!a}, which YAML does not carry", where)


def _check_events(text: str, path: Path, loader: Any) -> None:
    """Refuse aliases, which can grow without bound, and depth, before anything recursive looks at the text."""
    depth = 0
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.AliasEvent):
            where = _where(path, event.start_mark)
            raise ManifestError("MANIFEST_YAML", f"{where}: an alias; write the value out", where)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            where = _where(path, event.start_mark)
            raise ManifestError("MANIFEST_YAML", f"{where}: nested deeper than {MAX_DEPTH} levels", where)


def _read_document(node: yaml.Node, path: Path) -> ManifestDocument | None:
    places: dict[str, tuple[int, int]] = {}
    document = _read_node(node, "", path, places)
    if document is None:
        return None
    where = _where(path, node.start_mark)
    if not isinstance(document, dict):
        raise ManifestError("MANIFEST_SHAPE", f"{where}: a manifest is a mapping, this is a {type(document).__name__}", where)
    try:
        canonical_json(document)
    except CanonicalError as error:
        raise ManifestError("MANIFEST_YAML", f"{where}: {error.message}", where) from error
    return ManifestDocument(path, document, places)


def _read_node(node: yaml.Node, field: str, path: Path, places: dict[str, tuple[int, int]]) -> Any:
    places.setdefault(field, _place(node.start_mark))
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, where = _read_scalar(key_node, path), _where(path, key_node.start_mark)
            if not isinstance(key, str):
                raise ManifestError("MANIFEST_YAML", f"{where}: key {key!r} is not text", where)
            if key in mapping:
                raise ManifestError("MANIFEST_DUPLICATE_KEY", f"{where}: key {key!r} appears twice", where)
            inner = f"{field}.{key}" if field else key
            places[inner] = _place(key_node.start_mark)
            mapping[key] = _read_node(value_node, inner, path, places)
        return mapping
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
        return [_read_node(item, f"{field}.{position}", path, places) for position, item in enumerate(node.value)]
    return _read_scalar(node, path)


def _read_scalar(node: yaml.Node, path: Path) -> Any:
    where = _where(path, node.start_mark)
    kind = node.tag.removeprefix(_TAG)
    if not isinstance(node, yaml.ScalarNode) or kind not in ("str", "bool", "int", "null"):
        raise ManifestError("MANIFEST_YAML", f"{where}: {kind} is not read here", where)
    if kind == "str" and not node.style and _DISGUISED.fullmatch(node.value):
        message = f"{where}: {node.value} is a boolean to some and text to others; write true or false, or '{node.value}' in quotes"
        raise ManifestError("MANIFEST_BOOLEAN", message, where)
    if kind == "str":
        return _read_text(node.value, where)
    # A tag that somebody wrote may claim what the text is not.
    known = {"true": True, "false": False} if kind == "bool" else {"null": None, "~": None, "": None}
    value = _read_integer(node.value) if kind == "int" else known.get(node.value, node.value)
    if isinstance(value, str):
        shown = value if len(value) <= 40 else f"{value[:40]}..."
        raise ManifestError("MANIFEST_YAML", f"{where}: {shown!r} is no {'whole number of 64 bits' if kind == 'int' else kind}", where)
    return value


def _read_integer(text: str) -> int | str:
    """The text itself if it is none. Python would read the digits of every script, and 1_0."""
    return int(text) if _INTEGER.fullmatch(text) and abs(int(text)) < 2**63 else text


def _read_text(text: str, where: str) -> str:
    """The text with every character that was escaped in two halves, as JSON does it, made one."""
    try:
        text = text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise ManifestError(
            "MANIFEST_YAML", f"{where}: half of a character, an escape such as \\ud83d without its other half", where
        ) from error
    if "\0" in text:
        raise ManifestError("MANIFEST_YAML", f"{where}: a NUL character, which no record can hold", where)
    return text


def _place(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _where(path: Path, mark: Any) -> str:
    line, column = _place(mark)
    return f"{path} line {line} column {column}"


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
