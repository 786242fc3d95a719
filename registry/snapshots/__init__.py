"""Compile a snapshot from the record, sign it, publish it."""

from registry.snapshots.explain import Explanation, explain_request
from registry.snapshots.publish import publish_snapshot
from registry.snapshots.read import count_steering, read_envelope, read_head, read_heads, read_snapshot
from registry.snapshots.sign import trust_document

__all__ = [
    "Explanation",
    "count_steering",
    "explain_request",
    "publish_snapshot",
    "read_envelope",
    "read_head",
    "read_heads",
    "read_snapshot",
    "trust_document",
]
