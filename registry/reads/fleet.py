"""Where each serving node stands against the snapshot of its environment."""

from datetime import datetime, timedelta

from registry.models import (
    ReportResult,
    ServingNode,
)

# A node in step says so every 30 seconds; after two missed words it is silent.
SILENT_AFTER = timedelta(seconds=75)


def convergence_of(node: ServingNode, now: datetime) -> str:
    """Where a node stands, judged as it is read: its own last word would call a dead node healthy for ever.

    NEVER (said nothing, or never applied anything), SILENT, NACKED, SYNCED, or BEHIND (an older revision, or stale by its own word).
    """
    if node.last_seen_at is None:
        return "NEVER"
    if now - node.last_seen_at > SILENT_AFTER:
        return "SILENT"
    if node.last_result == ReportResult.NACK:
        return "NACKED"
    if node.applied_revision is None:
        return "NEVER"
    in_step = node.applied_revision == node.environment.head_revision and node.last_result != ReportResult.STALE
    return "SYNCED" if in_step else "BEHIND"
