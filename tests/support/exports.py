"""Eight events, and the files that an export makes of them."""

import json

from steernode.canonical import canonical_json
from steernode.proof.events import EVENT_SCHEMA, INFERENCE_CONFIGURATION, event_digest
from steernode.proof.export import (
    CSV_COLUMNS,
    csv_row,
    csv_text,
    csv_trailer,
    event_line,
    export_header,
    header_line,
)

ZERO = "0" * 64


def make_body(seq, **changes):
    """Events alternate between two objects, so both have gap-free versions."""
    return {
        "_": EVENT_SCHEMA,
        "id": f"event-{seq}",
        "seq": seq,
        "ts": f"2026-11-22T10:00:{seq:02}.000001Z",
        "action": "flag.set",
        "actor": {"type": "person", "name": "ada"},
        "object": {"type": "flag", "id": f"f{seq % 2}", "name": "=HYPERLINK(harbor)", "version": (seq + 1) // 2},
        "tenant": "harbor",
        "environment": None,
        "details": {"alpha_scale": "0.5", "note": 'comma, "quote"\nand line — ümlaut'},
        "inference_configuration": INFERENCE_CONFIGURATION,
        "base_model_fingerprint": None,
    } | changes


def chain(bodies, prev=ZERO):
    events = []
    for body in bodies:
        data = body if isinstance(body, bytes) else canonical_json(body)
        digest = event_digest(prev, data)
        events.append({"seq": json.loads(data)["seq"], "body": data, "digest": digest, "prev": prev})
        prev = digest
    return events


EVENTS = chain(make_body(seq) for seq in range(1, 9))


def header_of(events, **changes):
    last = events[-1] if events else {"seq": 0, "digest": ZERO}
    first = events[0]["seq"] if events else 1
    settings = {"from_seq": first, "to_seq": last["seq"], "count": len(events), "head_seq": last["seq"], "head_digest": last["digest"]}
    return export_header(**(settings | changes), exported_at="2026-11-22T11:00:00Z")


def jsonl(events, header=None):
    return header_line(header or header_of(events)) + b"".join(event_line(**event) for event in events)


def csv_file(events, header=None, rows=None):
    rows = rows or [csv_row(body=event["body"], digest=event["digest"], prev=event["prev"]) for event in events]
    lines = [csv_text(CSV_COLUMNS), *map(csv_text, rows), csv_text(csv_trailer(header or header_of(events)))]
    return "".join(lines).encode()
