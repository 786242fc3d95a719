"""What serving nodes report: in order, about what really was published, and within bounds."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from registry.audit import Action, record
from registry.errors import InvalidInput, TransitionRefused
from registry.models import BaseModel, NodeReport, ReportResult, ServingNode, Snapshot
from registry.reads.clocks import node_ahead_seconds
from registry.reads.fleet import describe_stop
from registry.services.transition import transition
from steernode.proof.events import CHECKED_BY, CHECKED_FILES
from steernode.records.reports import Report

# A heartbeat that says nothing new is written at most this often.
HEARTBEAT = timedelta(seconds=10)
# So many changes of state of one node are kept in such a time, each with its event; the rest are counted.
MAX_CHANGES, CHANGES_IN = 120, timedelta(hours=1)
# Boots that are remembered, so that a late report of one is recognised.
MAX_PAST_BOOTS = 100
_EVENTS = {ReportResult.ACK: Action.NODE_ACKED, ReportResult.NACK: Action.NODE_REFUSED, ReportResult.STALE: Action.NODE_STALE}


@transition
def record_node_report(node: ServingNode, *, report: Report) -> NodeReport | None:
    """Keep a node's last word. A change of what it applied or refused is a row and an audit event; a heartbeat is neither.

    Raises: InvalidInput REPORT_RESULT, REPORT_CODE; TransitionRefused REPORT_LATE, REPORT_REPLAYED, NODE_WITHDRAWN.
    """
    if report.result not in ReportResult.values:
        raise InvalidInput("REPORT_RESULT", f"a report says ACK, NACK, STALE or PENDING, not {report.result!r}", report.result)
    if report.result == ReportResult.NACK and not report.code:
        raise InvalidInput("REPORT_CODE", "a NACK names its code", report.result)
    locked = ServingNode.objects.select_for_update(of=("self",)).select_related("environment").get(pk=node.pk)
    if not locked.is_active:
        raise TransitionRefused("NODE_WITHDRAWN", f"{locked} is withdrawn", locked.name)
    _take_turn(locked, report)
    now = timezone.now()
    is_due = locked.last_seen_at is None or now - locked.last_seen_at >= HEARTBEAT
    before, stop_before = _standing(locked), describe_stop(locked)
    _note(locked, report)
    is_news = _standing(locked) != before
    # Somebody who pressed the kill switch waits for the word that it is obeyed.
    if not is_news and not is_due and describe_stop(locked) == stop_before:
        # Only how far its reports have come, or one that is kept out could come back.
        locked.save(update_fields=["boot_id", "last_seq", "past_boots"])
        return None
    locked.last_seen_at, locked.clock_ahead_seconds = now, node_ahead_seconds(report.node_utc)
    is_kept = is_news and _count_change(locked, now)
    locked.save()
    return _keep(locked, report) if is_kept else None


def _take_turn(node: ServingNode, report: Report) -> None:
    """Let no report pass that an earlier one has overtaken. Of another boot than the last it must be a new one: clocks are not asked."""
    if report.boot_id in node.past_boots:
        raise TransitionRefused("REPORT_LATE", f"{node} has started anew since boot {report.boot_id}", report.boot_id)
    if report.boot_id == node.boot_id and node.last_seq is not None and report.seq <= node.last_seq:
        code = "REPORT_REPLAYED" if report.seq == node.last_seq else "REPORT_LATE"
        raise TransitionRefused(code, f"report {report.seq} of this boot comes after {node.last_seq}", str(report.seq))
    if report.boot_id != node.boot_id:
        end_boot(node)
    node.boot_id, node.last_seq = report.boot_id, report.seq


def end_boot(node: ServingNode) -> None:
    """Whatever still comes of the boot that reported last is late. Unsaved."""
    if node.boot_id:
        node.past_boots = [*node.past_boots, node.boot_id][-MAX_PAST_BOOTS:]
    node.boot_id, node.last_seq = "", None


def _standing(node: ServingNode) -> tuple[object, ...]:
    """What makes a report news."""
    applied = (node.applied_revision, node.applied_digest, node.is_mismatched)
    return (node.last_result, node.last_code, node.engine, node.fingerprint, *applied, len(node.unservable))


def _note(node: ServingNode, report: Report) -> None:
    node.last_result, node.last_code = report.result, report.code
    node.engine, node.fingerprint, node.capabilities = report.engine[:100], report.fingerprint, sorted(report.capabilities)
    node.highest_revision = report.highest_revision
    node.applied_revision, node.applied_digest = report.applied or (None, "")
    node.is_mismatched = report.applied is not None and not _was_published(node, *report.applied)
    stop = report.stop
    node.stop_sequence, node.stop_digest = (stop.sequence, stop.digest) if stop else (None, "")
    node.stop_held, node.stop_surplus = (stop.held, list(stop.surplus)) if stop else (None, [])
    node.unservable = [asdict(each) for each in report.unservable]


def _was_published(node: ServingNode, revision: int, digest: str) -> bool:
    return Snapshot.objects.filter(environment=node.environment, revision=revision, content_digest=digest).exists()


def _count_change(node: ServingNode, now: datetime) -> bool:
    """Whether this change is kept. One node that swings to and fro fills neither the log nor a table: past the limit it says so once."""
    if node.counted_since is None or now - node.counted_since >= CHANGES_IN:
        if node.counted_changes > MAX_CHANGES:
            _record_count(node, left_out=node.counted_changes - MAX_CHANGES)
        node.counted_since, node.counted_changes = now, 0
    node.counted_changes += 1
    if node.counted_changes == MAX_CHANGES + 1:
        _record_count(node, left_out=0)
    return node.counted_changes <= MAX_CHANGES


def _record_count(node: ServingNode, *, left_out: int) -> None:
    """From here on changes are counted, or so many were left out until now."""
    details = {"limit": MAX_CHANGES, "minutes": int(CHANGES_IN.total_seconds()) // 60, "left_out": left_out}
    record(Action.NODE_CHANGES_COUNTED, actor=node, subject=node, environment=node.environment.name, details=details)


def _keep(node: ServingNode, report: Report) -> NodeReport:
    row = NodeReport.objects.create(
        node=node,
        result=report.result,
        code=report.code,
        message=report.message,
        revision=report.revision,
        slots=report.slots,
        counters=report.counters,
    )
    if report.result in _EVENTS:
        record(
            _EVENTS[ReportResult(report.result)],
            actor=node,
            subject=node,
            environment=node.environment.name,
            details={
                "revision": report.revision,
                "code": report.code,
                "engine": node.engine,
                "is_mismatched": node.is_mismatched,
                **_say_checked(node, report.result, node.fingerprint),
            },
            base_model_fingerprint=node.fingerprint,
        )
    return row


def _say_checked(node: ServingNode, result: str, fingerprint: str) -> dict[str, Any]:
    """Of an ACK: that the node hashed the files it loaded, found those that its environment serves, and which these are."""
    model = BaseModel.objects.filter(served_in__environment=node.environment, fingerprint=fingerprint).first()
    if result != ReportResult.ACK or model is None:
        return {}
    return {CHECKED_BY: node.name, CHECKED_FILES: [file["name"] for file in model.manifest["files"]]}
