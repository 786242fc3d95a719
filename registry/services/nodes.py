"""Serving nodes: enrolment and what they report."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from registry.audit import Action, record
from registry.errors import InvalidInput, TransitionRefused
from registry.models import BaseModel, Environment, NodeReport, ReportResult, ServingNode, User
from registry.services.names import check_new_name
from registry.services.people import hash_secret
from registry.services.transition import transition
from steernode.hub.tokens import NODE, make_token
from steernode.proof.events import CHECKED_BY, CHECKED_FILES

# A heartbeat that says nothing new is written at most this often.
HEARTBEAT = timedelta(seconds=10)
_EVENTS = {ReportResult.ACK: Action.NODE_ACKED, ReportResult.NACK: Action.NODE_REFUSED, ReportResult.STALE: Action.NODE_STALE}


@transition
def enroll_node(name: str, *, environment: Environment, actor: User) -> tuple[ServingNode, str]:
    """A new node and its token, which is shown this once."""
    if ServingNode.objects.filter(name=name).exists():
        raise TransitionRefused("NODE_EXISTS", f"a node {name!r} is enrolled already", name)
    check_new_name(ServingNode, name)
    secret = make_token(NODE)
    node = ServingNode.objects.create(name=name, environment=environment, token_prefix=secret[:12], token_sha256=hash_secret(secret))
    record(Action.NODE_ENROLLED, actor=actor, subject=node, environment=environment.name, details={"token": node.token_prefix})
    return node, secret


def _say_checked(node: ServingNode, result: str, fingerprint: str) -> dict[str, Any]:
    """Of an ACK: that the node hashed the files it loaded, found those that its environment serves, and which these are."""
    model = BaseModel.objects.filter(served_in__environment=node.environment, fingerprint=fingerprint).first()
    if result != ReportResult.ACK or model is None:
        return {}
    return {CHECKED_BY: node.name, CHECKED_FILES: [file["name"] for file in model.manifest["files"]]}


@transition
def record_node_report(node: ServingNode, *, report: dict[str, Any]) -> NodeReport | None:
    """Keep a node's last word. A change of what it applied or refused is a row and an audit event; a heartbeat is neither.

    Raises: InvalidInput REPORT_RESULT, REPORT_CODE.
    """
    result, code = report["result"], report.get("code") or ""
    if result not in ReportResult.values:
        raise InvalidInput("REPORT_RESULT", f"a report says ACK, NACK, STALE or PENDING, not {result!r}", str(result))
    if result == ReportResult.NACK and not code:
        raise InvalidInput("REPORT_CODE", "a NACK names its code", result)
    locked = ServingNode.objects.select_for_update(of=("self",)).select_related("environment").get(pk=node.pk)
    now = timezone.now()
    revision = report.get("revision")
    engine, fingerprint = str(report.get("engine") or "")[:100], str(report.get("fingerprint") or "")[:64]
    news = (locked.last_result, locked.last_code, locked.engine, locked.fingerprint) != (result, code, engine, fingerprint)
    news = news or (result == ReportResult.ACK and locked.applied_revision != revision)
    if not news and locked.last_seen_at is not None and now - locked.last_seen_at < HEARTBEAT:
        return None
    locked.last_seen_at, locked.last_result, locked.last_code = now, result, code
    locked.engine, locked.fingerprint = engine, fingerprint
    if result == ReportResult.ACK:
        locked.applied_revision = revision
    locked.save()
    if not news:
        return None
    row = NodeReport.objects.create(
        node=locked,
        result=result,
        code=code,
        message=str(report.get("message") or "")[:2000],
        revision=revision,
        slots=report.get("slots") or [],
        counters=report.get("counters") or {},
    )
    if result in _EVENTS:
        record(
            _EVENTS[ReportResult(result)],
            actor=locked,
            subject=locked,
            environment=locked.environment.name,
            details={"revision": revision, "code": code, "engine": engine, **_say_checked(locked, result, fingerprint)},
            base_model_fingerprint=fingerprint,
        )
    return row
