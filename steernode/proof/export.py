"""The audit export, as bytes: JSON Lines for machines and CSV for spreadsheets. The hub writes them with these functions."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from steernode.canonical import canonical_json, parse_strict

EXPORT_SCHEMA = "steerhub.audit-export/1"
MAX_LINE_BYTES = 1024 * 1024
HEADER_FIELDS = ("schema", "from_seq", "to_seq", "count", "head", "exported_at")
EVENT_FIELDS = ("seq", "body", "digest", "prev")
CSV_COLUMNS = (
    *("seq", "id", "ts", "action", "actor_type", "actor_name", "object_type", "object_id", "object_name", "object_version"),
    *("tenant", "environment", "inference_configuration", "base_model_fingerprint", "digest", "prev", "body"),
)
# A spreadsheet would run a cell that starts with one of these.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def export_header(*, from_seq: int, to_seq: int, count: int, head_seq: int, head_digest: str, exported_at: str) -> dict[str, Any]:
    """What an export claims to hold. The head is the last exported event; an empty export has the head 0, zeros."""
    return {
        "schema": EXPORT_SCHEMA,
        "from_seq": from_seq,
        "to_seq": to_seq,
        "count": count,
        "head": {"seq": head_seq, "digest": head_digest},
        "exported_at": exported_at,
    }


def header_line(header: Mapping[str, Any]) -> bytes:
    """The first line of a JSONL export."""
    return canonical_json(dict(header)) + b"\n"


def event_line(*, seq: int, body: bytes, digest: str, prev: str) -> bytes:
    """One event of a JSONL export. The body travels as text inside the line, so that its bytes survive unchanged."""
    return canonical_json({"seq": seq, "body": body.decode("utf-8"), "digest": digest, "prev": prev}) + b"\n"


def csv_row(*, body: bytes, digest: str, prev: str) -> list[str]:
    """One event of a CSV export, in the order of CSV_COLUMNS."""
    return project_event(parse_strict(body, max_bytes=MAX_LINE_BYTES), body.decode("utf-8"), digest, prev)


def csv_trailer(header: Mapping[str, Any]) -> list[str]:
    """The last row of a CSV export: a file without it was cut short."""
    return [EXPORT_SCHEMA, *[""] * (len(CSV_COLUMNS) - 2), canonical_json(dict(header)).decode("utf-8")]


def csv_text(row: Sequence[str]) -> str:
    """A row as it stands in the file, with its line end."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\r\n").writerow(row)
    return stream.getvalue()


def escape_cell(text: str) -> str:
    """The text with an apostrophe in front where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def project_event(body: dict[str, Any], body_text: str, digest: str, prev: str) -> list[str]:
    """The columns of an event in a CSV export, all of them read from its body."""
    subject, actor = body["object"], body["actor"]
    cells = [
        *(body["seq"], body["id"], body["ts"], body["action"], actor["type"], actor["name"]),
        *(subject["type"], subject["id"], subject["name"], subject["version"], body["tenant"], body["environment"]),
        *(body["inference_configuration"], body["base_model_fingerprint"], digest, prev),
    ]
    return [*("" if cell is None else escape_cell(str(cell)) for cell in cells), body_text]
