"""What a node remembers on disk of stops: the signed statements that it holds kills by, how far it heard, and an inbox for files."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steernode.canonical import canonical_json, parse_strict
from steernode.errors import CanonicalError, FieldError, NodeError
from steernode.node.store import read_file, write_atomically
from steernode.stop.document import MAX_ENVELOPE_BYTES
from steernode.strict import read_digest, read_exactly, read_hexadecimal, read_integer, read_list

log = logging.getLogger("steernode.node")

STATE_SCHEMA = "steerhub.node-stops/1"
INBOX = "stop-inbox"
_ENDING = ".dsse"
_MAX_STATE_BYTES = 16 * 1024 * 1024
# More files than that in one look are a mistake, and the rest is for the next look.
_MAX_INBOX_FILES = 1000
# A file that is no stop and does not change for so long is not being copied there any more.
_SETTLE_SECONDS = 2.0
# What tells a file from another one of its name: that, when it was changed, its size.
_Mark = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class StopState:
    """`sequence` and `digest` are of the hub's statement with the highest sequence ever heard, whose kills are all held.

    `held` are the kills that are held besides, by the digest of the statement that brought them.
    """

    sequence: int = 0
    digest: str = ""
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        held = {digest: list(ids) for digest, ids in self.held.items()}
        return {"schema": STATE_SCHEMA, "sequence": self.sequence, "digest": self.digest, "held": held}

    @classmethod
    def from_document(cls, document: Any) -> StopState:
        read_exactly(document, "stops", ("schema", "sequence", "digest", "held"))
        if document["schema"] != STATE_SCHEMA:
            raise FieldError("schema", f"of the stops must be {STATE_SCHEMA!r}, got {document['schema']!r}")
        if not isinstance(document["held"], dict):
            raise FieldError("held", "must be an object")
        return cls(
            sequence=read_integer(document["sequence"], "sequence", least=0),
            digest=read_digest(document["digest"], "digest") if document["digest"] else "",
            held={read_digest(digest, "held"): read_list(ids, f"held.{digest}", _read_id) for digest, ids in document["held"].items()},
        )


class StopStore:
    """The files of one node's stops: stops.json, stops/<digest of the payload>.dsse, and stop-inbox/ for whoever drops one there."""

    def __init__(self, folder: Path) -> None:
        self._stops, self._state, self._inbox = folder / "stops", folder / "stops.json", folder / INBOX
        # Files of the inbox that are done with and cannot be moved away, and since when others are no stop, as they were then.
        self._done: set[_Mark] = set()
        self._odd_since: dict[_Mark, float] = {}

    def read_state(self) -> StopState | None:
        """None for a node that never heard of a stop. Raises: NodeError STORE_CORRUPT."""
        data = read_file(self._state, _MAX_STATE_BYTES)
        if data is None:
            return None
        try:
            return StopState.from_document(parse_strict(data, max_bytes=_MAX_STATE_BYTES))
        except (CanonicalError, FieldError) as error:
            raise NodeError("STORE_CORRUPT", f"{self._state}: {error.message}", self._state.name) from error

    def write_state(self, state: StopState) -> None:
        write_atomically(self._state, canonical_json(state.to_document()))

    def digests(self) -> set[str]:
        try:
            return {path.name.removesuffix(_ENDING) for path in self._stops.iterdir() if path.name.endswith(_ENDING)}
        except OSError:
            return set()

    def read_envelope(self, digest: str) -> bytes | None:
        try:
            return read_file(self._path(digest), MAX_ENVELOPE_BYTES)
        except NodeError as error:
            log.error("%s: %s", error.code, error.message)
            return None

    def write_envelope(self, digest: str, envelope: bytes) -> None:
        write_atomically(self._path(digest), envelope)

    def forget_envelope(self, digest: str) -> None:
        try:
            self._path(digest).unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove %s: %s", self._path(digest), error.strerror or error)

    def make_inbox(self) -> None:
        """So that the folder is the node's own, whoever drops a file there."""
        try:
            self._inbox.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            log.warning("cannot make %s: %s", self._inbox, error.strerror or error)

    def read_inbox(self) -> Iterator[tuple[Path, bytes | None]]:
        """Each file that lies there and is new, with its bytes; None of what is no plain file, or cannot be read.

        The caller ends each with `clear` or `set_aside`.
        """
        try:
            names = sorted(os.listdir(self._inbox))
        except OSError:
            return
        # A name that begins with a dot is still being written.
        for path in [self._inbox / name for name in names if not name.startswith(".")][:_MAX_INBOX_FILES]:
            if (mark := _mark(path)) is None or mark in self._done:
                continue
            yield path, _read_plain(path)

    def clear(self, path: Path) -> None:
        """The file is heard and kept elsewhere."""
        self._move(path, None)

    def set_aside(self, path: Path) -> bool:
        """The file is no stop; it stays, out of the way, for whoever wants to know what it was. False while it may still be copied."""
        if (mark := _mark(path)) is None:
            return False
        now = time.monotonic()
        if now - self._odd_since.setdefault(mark, now) < _SETTLE_SECONDS:
            return False
        del self._odd_since[mark]
        self._move(path, path.with_name(f".refused-{path.name[:200]}"))
        return True

    def _move(self, path: Path, target: Path | None) -> None:
        mark = _mark(path)
        try:
            if target is None:
                path.unlink(missing_ok=True)
            else:
                os.replace(path, target)
        except OSError as error:
            log.warning("cannot move %s: %s", path, error.strerror or error)
            if mark is not None:
                self._done.add(mark)

    def _path(self, digest: str) -> Path:
        return self._stops / f"{digest}{_ENDING}"


def _mark(path: Path) -> _Mark | None:
    """None if it is gone."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return path.name, found.st_mtime_ns, found.st_size


def _read_plain(path: Path) -> bytes | None:
    """Nothing but a plain file is opened: a pipe would be waited for, for ever."""
    try:
        return read_file(path, MAX_ENVELOPE_BYTES) if stat.S_ISREG(path.stat().st_mode) else None
    except (OSError, NodeError) as error:
        log.warning("cannot read %s: %s", path, error)
        return None


def _read_id(value: Any, path: str) -> str:
    return read_hexadecimal(value, path, 32)
