"""What a node remembers on disk: the exact signed bytes it serves, how far it has ever come, and the vectors.

Every file is replaced whole or not at all, so a machine that loses power finds the old one or the new one.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from steernode.canonical import canonical_json, parse_strict, sha256_hex
from steernode.dsse import MAX_ENVELOPE_BYTES
from steernode.errors import CanonicalError, FieldError, NodeError
from steernode.files.vectors import MAX_FILE_BYTES
from steernode.strict import format_time, read_digest, read_exactly, read_integer, read_text, read_time

STATE_SCHEMA = "steerhub.node-state/1"
_MAX_STATE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class NodeState:
    """`highest_*` name the newest snapshot ever accepted. `last_contact_at` is when the hub last vouched for it."""

    environment: str
    etag: str
    highest_revision: int
    highest_digest: str
    accepted_at: datetime
    last_contact_at: datetime

    def to_document(self) -> dict[str, Any]:
        return {
            "schema": STATE_SCHEMA,
            "environment": self.environment,
            "etag": self.etag,
            "highest": {"revision": self.highest_revision, "content_digest": self.highest_digest},
            "accepted_at": format_time(self.accepted_at),
            "last_contact_at": format_time(self.last_contact_at),
        }

    @classmethod
    def from_document(cls, document: Any) -> NodeState:
        read_exactly(document, "state", ("schema", "environment", "etag", "highest", "accepted_at", "last_contact_at"))
        if document["schema"] != STATE_SCHEMA:
            raise FieldError("schema", f"of the state must be {STATE_SCHEMA!r}, got {document['schema']!r}")
        read_exactly(document["highest"], "highest", ("revision", "content_digest"))
        return cls(
            environment=read_text(document["environment"], "environment"),
            etag=read_text(document["etag"], "etag", least=0),
            highest_revision=read_integer(document["highest"]["revision"], "highest.revision", least=1),
            highest_digest=read_digest(document["highest"]["content_digest"], "highest.content_digest"),
            accepted_at=read_time(document["accepted_at"], "accepted_at"),
            last_contact_at=read_time(document["last_contact_at"], "last_contact_at"),
        )


class NodeStore:
    """The files of one node: snapshot.dsse, state.json, blobs/<sha256>, and word.dsse while a newer snapshot cannot be applied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read_envelope(self) -> bytes | None:
        return read_file(self.folder / "snapshot.dsse", MAX_ENVELOPE_BYTES)

    def read_word(self) -> bytes | None:
        return read_file(self.folder / "word.dsse", MAX_ENVELOPE_BYTES)

    def write_word(self, envelope: bytes) -> None:
        write_atomically(self.folder / "word.dsse", envelope)

    def forget_word(self) -> None:
        """Of what is in force by now nothing is left to obey; found again after a failure here, it is older than that."""
        with suppress(OSError):
            (self.folder / "word.dsse").unlink(missing_ok=True)

    def read_state(self) -> NodeState | None:
        """None for a node that has never accepted anything. Raises: NodeError STORE_CORRUPT."""
        data = read_file(self.folder / "state.json", _MAX_STATE_BYTES)
        if data is None:
            return None
        try:
            return NodeState.from_document(parse_strict(data))
        except (CanonicalError, FieldError) as error:
            raise NodeError("STORE_CORRUPT", f"{self.folder / 'state.json'}: {error.message}", "state.json") from error

    def read_blob(self, sha256: str) -> bytes | None:
        """The bytes with this digest; None if they are not there, or no longer what they were."""
        try:
            data = read_file(self.folder / "blobs" / sha256, MAX_FILE_BYTES)
        except NodeError:
            # A vector can be had again from the hub, whatever is wrong with this copy.
            return None
        return data if data is not None and sha256_hex(data) == sha256 else None

    def write_snapshot(self, envelope: bytes, state: NodeState) -> None:
        """The snapshot first: found with an older state it is simply news, whereas an older snapshot would look like a rollback."""
        write_atomically(self.folder / "snapshot.dsse", envelope)
        self.write_state(state)

    def forget_snapshot(self) -> None:
        """Only the snapshot: how far this node has come is remembered, so that nothing older is believed again."""
        (self.folder / "snapshot.dsse").unlink(missing_ok=True)
        self.forget_word()

    def write_state(self, state: NodeState) -> None:
        write_atomically(self.folder / "state.json", canonical_json(state.to_document()))

    def write_blob(self, sha256: str, data: bytes) -> None:
        write_atomically(self.folder / "blobs" / sha256, data)


def read_file(path: Path, max_bytes: int) -> bytes | None:
    """Its first `max_bytes` + 1 bytes; None if it is not there. Raises: NodeError STORE_CORRUPT."""
    try:
        with path.open("rb") as stream:
            return stream.read(max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NodeError("STORE_CORRUPT", f"cannot read {path}: {error.strerror or error}", path.name) from error


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a temporary file, fsync it, rename it into place, fsync the folder. Raises: NodeError CACHE_UNWRITABLE."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:20]}.")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise NodeError("CACHE_UNWRITABLE", f"cannot write {path}: {error.strerror or error}", path.name) from error
