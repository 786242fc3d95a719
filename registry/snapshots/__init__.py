"""Compile a snapshot from the record, sign it, publish it."""

from registry.snapshots.explain import Explanation, explain_request
from registry.snapshots.precedence import give_way_to_kills, take_precedence
from registry.snapshots.publish import all_or_nothing, lock_environments, publish_snapshot, reissue_before_expiry
from registry.snapshots.read import count_steering, read_envelope, read_head, read_heads, read_snapshot
from registry.snapshots.sign import trust_document

__all__ = [
    "Explanation",
    "all_or_nothing",
    "count_steering",
    "explain_request",
    "give_way_to_kills",
    "lock_environments",
    "publish_snapshot",
    "read_envelope",
    "read_head",
    "read_heads",
    "read_snapshot",
    "reissue_before_expiry",
    "take_precedence",
    "trust_document",
]
