"""YAML without surprises: every value is what it looks like, in one place of the text, and nothing grows or nests without bound."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from steernode.canonical import canonical_json
from steernode.errors import CanonicalError, ManifestError

MAX_DEPTH = 32
# What YAML 1.1 reads as true and false, and people as the words they are.
_DISGUISED = re.compile(r"yes|no|on|off|true|false", re.ASCII | re.IGNORECASE)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)
# Half of a character outside the first 65,536, as JSON escapes it.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_TAG = "tag:yaml.org,2002:"
Places = dict[str, tuple[int, int]]


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


def read_yaml(path: Path, max_bytes: int) -> list[tuple[dict[str, Any], Places]]:
    """The mappings of a file, each with the line and column of its fields by their path, such as spec.alphas.2.

    Raises: ManifestError MANIFEST_MISSING, MANIFEST_YAML, MANIFEST_DUPLICATE_KEY, MANIFEST_BOOLEAN, MANIFEST_SHAPE.
    """
    try:
        data = path.read_bytes()
        if len(data) > max_bytes:
            raise ManifestError("MANIFEST_YAML", f"{path} has {len(data)} bytes, at most {max_bytes} are read", str(path))
        text = data.decode("utf-8")
        loader = _PatientLoader if _HALF.search(text) else _StrictLoader
        _check_characters(text, path)
        _check_events(text, path, loader)
        nodes = [node for node in yaml.compose_all(text, loader) if node is not None]
        return [read for node in nodes if (read := _read_document(node, path)) is not None]
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


def _read_document(node: yaml.Node, path: Path) -> tuple[dict[str, Any], Places] | None:
    places: Places = {}
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
    return document, places


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
