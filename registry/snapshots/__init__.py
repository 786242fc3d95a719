"""Compile a snapshot from the record, sign it, publish it; and the stop statement, which is of all environments and compiles nothing."""

from registry.snapshots.explain import Explanation, explain_request
from registry.snapshots.freeze import find_increase
from registry.snapshots.preview import preview_snapshot
from registry.snapshots.publish import publish_snapshot
from registry.snapshots.read import count_steering, read_envelope, read_head, read_heads, read_snapshot, read_stop_envelope
from registry.snapshots.sign import sign_trust, trust_document
from registry.snapshots.stops import issue_stop

__all__ = [
    "Explanation",
    "count_steering",
    "explain_request",
    "find_increase",
    "issue_stop",
    "preview_snapshot",
    "publish_snapshot",
    "read_envelope",
    "read_head",
    "read_heads",
    "read_snapshot",
    "read_stop_envelope",
    "sign_trust",
    "trust_document",
]
