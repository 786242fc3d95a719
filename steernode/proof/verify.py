"""The check of an audit export that an auditor runs with no network, no server and no database.

Each event's digest covers the digest before it and the exact bytes of its body, so an edit, a removal or a reordering
anywhere changes every digest after it. Somebody who rewrites the whole log cannot be caught by the export alone: compare
the head with one written down earlier (`expected_head`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steernode.canonical import canonical_json, parse_strict
from steernode.errors import CanonicalError, VerificationFailed
from steernode.proof.events import (
    ACTOR_FIELDS,
    BODY_FIELDS,
    EVENT_SCHEMA,
    FIRST_SCHEMA,
    OBJECT_FIELDS,
    ZERO_DIGEST,
    configuration_statement,
    event_digest,
)
from steernode.proof.export import CSV_COLUMNS, EVENT_FIELDS, EXPORT_SCHEMA, HEADER_FIELDS, MAX_LINE_BYTES, project_event


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was proved. `is_from_start` says whether the first event of the log is in the export."""

    events: int
    from_seq: int
    to_seq: int
    head: str
    exported_at: str
    objects: int
    is_from_start: bool
    format: str

    def to_document(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def verify_export(path: Path, *, expected_head: str | None = None) -> VerifyReport:
    """Checks every event of a JSONL or CSV export, reading it once and never whole.

    Raises: VerificationFailed E_PACK (unreadable), E_BODY, E_PROJECTION, E_DIGEST, E_CHAIN, E_OBJECT_GAP, E_COUNT, E_HEAD;
    `item` names the first bad event.
    """
    if not path.is_file():
        raise VerificationFailed("E_PACK", f"{path} is not a file", str(path))
    with path.open("rb") as stream:
        is_csv = stream.read(4) == b"seq,"
    try:
        if is_csv:
            with path.open(encoding="utf-8", newline="") as text:
                return _verify_csv(text, expected_head)
        with path.open("rb") as stream:
            return _verify_jsonl(stream, expected_head)
    except UnicodeDecodeError as error:
        raise VerificationFailed("E_PACK", f"{path} is not UTF-8 at byte {error.start}", str(path)) from error


class _Chain:
    """The events seen so far, as far as the next one must fit them."""

    def __init__(self) -> None:
        self.count = 0
        self.first_seq = 0
        self.last_seq = 0
        self.last_digest = ZERO_DIGEST
        self._versions: dict[tuple[str, str], int] = {}

    @property
    def objects(self) -> int:
        return len(self._versions)

    def add(self, seq: int, body_text: str, digest: str, prev: str) -> dict[str, Any]:
        """Checks one event against itself and its predecessor. Returns the body."""
        body_bytes = body_text.encode("utf-8")
        named = f"event {seq}"
        if event_digest(prev, body_bytes) != digest:
            raise VerificationFailed("E_DIGEST", f"{named} ({_guess_id(body_text)}): its bytes do not have the digest it carries", named)
        body = _read_body(seq, body_bytes)
        named = f"event {seq} ({body['id']})"
        if self.count == 0:
            self.first_seq = seq
            if seq == 1 and prev != ZERO_DIGEST:
                raise VerificationFailed("E_CHAIN", f"{named}: the first event of a log must follow {ZERO_DIGEST[:8]}…", f"event {seq}")
        elif seq != self.last_seq + 1 or prev != self.last_digest:
            raise VerificationFailed(
                "E_CHAIN", f"{named}: does not follow event {self.last_seq}; events were removed, added or reordered here", f"event {seq}"
            )
        self._check_version(seq, named, body["object"])
        self.count, self.last_seq, self.last_digest = self.count + 1, seq, digest
        return body

    def _check_version(self, seq: int, named: str, subject: dict[str, Any]) -> None:
        key = (subject["type"], subject["id"])
        # An export that begins later cannot say which version an object should have reached.
        expected = self._versions.get(key, 0) + 1 if key in self._versions or self.first_seq == 1 else subject["version"]
        if subject["version"] != expected:
            raise VerificationFailed(
                "E_OBJECT_GAP", f"{named}: is version {subject['version']} of {key[0]} {key[1]}, expected {expected}", f"event {seq}"
            )
        self._versions[key] = subject["version"]

    def finish(self, header: dict[str, Any], export_format: str, expected_head: str | None) -> VerifyReport:
        head = header["head"]
        if header["count"] != self.count:
            raise VerificationFailed("E_COUNT", f"the export claims {header['count']} events and holds {self.count}; it was cut or padded")
        if self.count and (header["from_seq"], header["to_seq"]) != (self.first_seq, self.last_seq):
            raise VerificationFailed(
                "E_COUNT",
                f"the export claims events {header['from_seq']} to {header['to_seq']} and holds {self.first_seq} to {self.last_seq}",
            )
        if (head["seq"], head["digest"]) != (self.last_seq, self.last_digest):
            raise VerificationFailed(
                "E_CHAIN", f"the export's head {head['seq']} is not its last event {self.last_seq}", f"event {self.last_seq}"
            )
        if expected_head is not None and expected_head != self.last_digest:
            raise VerificationFailed("E_HEAD", f"the last event has the digest {self.last_digest}, expected {expected_head}", expected_head)
        return VerifyReport(
            events=self.count,
            from_seq=header["from_seq"],
            to_seq=header["to_seq"],
            head=self.last_digest,
            exported_at=header["exported_at"],
            objects=self.objects,
            is_from_start=self.first_seq == 1,
            format=export_format,
        )


def _verify_jsonl(stream: io.BufferedReader, expected_head: str | None) -> VerifyReport:
    lines = _read_lines(stream)
    first = next(lines, None)
    if first is None:
        raise VerificationFailed("E_PACK", "the file is empty")
    header = _read_header(_parse(first[1], "line 1"))
    chain = _Chain()
    for number, line in lines:
        event = _parse(line, f"line {number}")
        if not isinstance(event, dict) or set(event) != set(EVENT_FIELDS):
            raise VerificationFailed("E_PACK", f"line {number}: an event has the fields {', '.join(EVENT_FIELDS)}", f"line {number}")
        _check_event_types(event, f"line {number}")
        chain.add(event["seq"], event["body"], event["digest"], event["prev"])
    return chain.finish(header, "jsonl", expected_head)


def _verify_csv(stream: io.TextIOWrapper, expected_head: str | None) -> VerifyReport:
    csv.field_size_limit(MAX_LINE_BYTES)
    rows = csv.reader(stream, strict=True)
    chain = _Chain()
    header: dict[str, Any] | None = None
    try:
        if tuple(next(rows, ())) != CSV_COLUMNS:
            raise VerificationFailed("E_PACK", f"row 1: the columns must be {','.join(CSV_COLUMNS)}", "row 1")
        for number, row in enumerate(rows, start=2):
            if len(row) != len(CSV_COLUMNS) or header is not None:
                raise VerificationFailed("E_PACK", f"row {number}: has {len(row)} cells or follows the trailer", f"row {number}")
            if row[0] == EXPORT_SCHEMA:
                header = _read_header(_parse(row[-1].encode("utf-8"), f"row {number}"))
                continue
            _check_csv_event(chain, row, number)
    except csv.Error as error:
        raise VerificationFailed("E_PACK", f"row {rows.line_num}: {error}", f"row {rows.line_num}") from error
    if header is None:
        raise VerificationFailed("E_COUNT", "the export has no trailer row; it was cut short")
    return chain.finish(header, "csv", expected_head)


def _check_csv_event(chain: _Chain, row: list[str], number: int) -> None:
    event: dict[str, Any] = {
        "seq": int(row[0]) if row[0].isdecimal() and len(row[0]) < 19 else row[0],
        "digest": row[-3],
        "prev": row[-2],
        "body": row[-1],
    }
    _check_event_types(event, f"row {number}")
    body = chain.add(event["seq"], event["body"], event["digest"], event["prev"])
    for column, cell, expected in zip(CSV_COLUMNS, row, project_event(body, row[-1], row[-3], row[-2]), strict=True):
        if cell != expected:
            raise VerificationFailed(
                "E_PROJECTION",
                f"event {body['seq']} ({body['id']}): column {column} says {cell!r}, the event says {expected!r}",
                f"event {body['seq']}",
            )


def _read_body(seq: int, body_bytes: bytes) -> dict[str, Any]:
    named = f"event {seq}"
    try:
        body = parse_strict(body_bytes, max_bytes=MAX_LINE_BYTES)
        is_canonical = canonical_json(body) == body_bytes
    except CanonicalError as error:
        raise VerificationFailed("E_BODY", f"{named}: {error.message}", named) from error
    if not isinstance(body, dict) or not is_canonical or set(body) != set(BODY_FIELDS):
        raise VerificationFailed("E_BODY", f"{named}: the body is not the canonical JSON of an audit event", named)
    schema = body["_"] if body["_"] == FIRST_SCHEMA else EVENT_SCHEMA
    details = body["details"] if isinstance(body["details"], dict) else {}
    statement = configuration_statement(schema, details, body["base_model_fingerprint"])
    wanted = {"_": schema, "seq": seq, "inference_configuration": statement}
    for field, value in wanted.items():
        if body[field] != value:
            raise VerificationFailed(
                "E_BODY", f"{named} ({_guess_id(str(body['id']))}): {field} is {body[field]!r}, expected {value!r}", named
            )
    texts = [
        body["id"],
        body["ts"],
        body["action"],
        *(body[name] for name in ("tenant", "environment", "base_model_fingerprint") if body[name] is not None),
    ]
    for part, names in ((body["actor"], ACTOR_FIELDS), (body["object"], OBJECT_FIELDS)):
        if not isinstance(part, dict) or set(part) != set(names):
            raise VerificationFailed("E_BODY", f"{named}: actor or object lacks a field or has one too many", named)
        texts += [value for name, value in part.items() if name != "version"]
    version = body["object"]["version"]
    if not all(isinstance(text, str) for text in texts) or isinstance(version, bool) or not isinstance(version, int):
        raise VerificationFailed("E_BODY", f"{named}: a field has the wrong type", named)
    return body


def _read_header(header: Any) -> dict[str, Any]:
    if not isinstance(header, dict) or set(header) != set(HEADER_FIELDS) or header["schema"] != EXPORT_SCHEMA:
        raise VerificationFailed("E_PACK", f"the export's header must have the schema {EXPORT_SCHEMA!r} and {', '.join(HEADER_FIELDS[1:])}")
    head = header["head"]
    counts = [header["from_seq"], header["to_seq"], header["count"], head.get("seq") if isinstance(head, dict) else None]
    if any(isinstance(count, bool) or not isinstance(count, int) or count < 0 for count in counts) or set(head) != {"seq", "digest"}:
        raise VerificationFailed("E_PACK", "the export's header must give from_seq, to_seq, count and head.seq as integers")
    return header


def _check_event_types(event: Mapping[str, Any], named: str) -> None:
    seq = event["seq"]
    digests = (event["digest"], event["prev"])
    if isinstance(seq, bool) or not isinstance(seq, int) or not isinstance(event["body"], str):
        raise VerificationFailed("E_PACK", f"{named}: seq must be an integer and body text", named)
    if not all(isinstance(digest, str) and len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in digests):
        raise VerificationFailed("E_PACK", f"{named}: digest and prev must be 64 lower-case hexadecimal digits", named)


def _read_lines(stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise VerificationFailed("E_PACK", f"line {number}: is longer than {MAX_LINE_BYTES} bytes", f"line {number}")
        if not line.endswith(b"\n"):
            raise VerificationFailed("E_COUNT", f"line {number}: does not end with a line feed; the export was cut short", f"line {number}")
        yield number, line


def _parse(line: bytes, named: str) -> Any:
    try:
        return parse_strict(line, max_bytes=MAX_LINE_BYTES)
    except CanonicalError as error:
        raise VerificationFailed("E_PACK", f"{named}: {error.message}", named) from error


def _guess_id(body_text: str) -> str:
    """The event's own id, if a body that is already known to be wrong still shows one."""
    try:
        body = parse_strict(body_text.encode("utf-8"), max_bytes=MAX_LINE_BYTES)
    except CanonicalError:
        return "id unreadable"
    return str(body.get("id", "no id")) if isinstance(body, dict) else "no id"
