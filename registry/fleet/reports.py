"""`POST nodes/NAME/report`: what a node says of itself, signed with its own key; read strictly, then recorded by the service."""

import asyncio

from registry.errors import InvalidInput
from registry.fleet.answers import Ask, Refusal
from registry.fleet.heads import NodeKey
from registry.fleet.threads import DaemonThreads
from registry.models import ServingNode
from registry.services.reports import record_node_report
from registry.web.bodies import parse_body
from steernode.dsse import open_from, read_public_key
from steernode.errors import SnapshotRefused
from steernode.records.reports import REPORT_TYPE, Report
from steernode.strict import refused_as

MAX_REPORT_BYTES = 1024 * 1024


# Reports are the one thing here that takes a database connection each; a storm of them must not take all there are.
_RECORDING = DaemonThreads(4, name="node-reports")


async def take_report(ask: Ask, name: str) -> None:
    """A node reports as itself only. Raises: Refusal 401, 403, 413; as `open_report` and `record_node_report`."""
    node = await ask.identify()
    if name not in (node.name, node.id):
        raise Refusal(403, "NODE", f"this token is {node.name}'s, who reports as itself only")
    envelope = await ask.read_body(MAX_REPORT_BYTES)
    await asyncio.get_running_loop().run_in_executor(_RECORDING, _record, node, envelope)
    await ask.answer(204, {"Cache-Control": "no-store"})


def open_report(node: NodeKey, public_key: str, envelope: bytes) -> Report:
    """The report that a node signed with this key.

    Raises: InvalidInput REPORT_UNSIGNED, REPORT_SHAPE, REPORT_FIELD; CanonicalError JSON_*; Refusal 403 REPORT_SIGNATURE, NODE,
    ENVIRONMENT.
    """
    if not public_key:
        raise Refusal(403, "REPORT_SIGNATURE", f"{node.name} has no key of its own yet; rotate it, and let it enrol")
    try:
        payload = open_from(envelope, public_key=read_public_key(public_key, "public_key"), payload_type=REPORT_TYPE)
    except SnapshotRefused as refusal:
        if refusal.code == "SIGNATURE":
            raise Refusal(403, "REPORT_SIGNATURE", f"the report is not signed with the key {refusal.item} of {node.name}") from refusal
        raise InvalidInput("REPORT_UNSIGNED", f"a report comes in an envelope that its node signs: {refusal.message}") from refusal
    document = parse_body(payload, max_bytes=MAX_REPORT_BYTES, max_depth=16)
    if not isinstance(document, dict):
        raise InvalidInput("REPORT_SHAPE", "a report is an object")
    with refused_as(InvalidInput, "REPORT_FIELD"):
        report = Report.from_document(document)
    if report.node != node.name:
        raise Refusal(403, "NODE", f"{node.name} reports as itself only, not as {report.node!r}")
    if report.environment != node.environment:
        raise Refusal(403, "ENVIRONMENT", f"{node.name} is of {node.environment}, and reports of {report.environment!r}")
    return report


def _record(node: NodeKey, envelope: bytes) -> None:
    row = ServingNode.objects.only("public_key").get(pk=node.id)
    record_node_report(row, report=open_report(node, row.public_key, envelope))
