"""`POST nodes/NAME/report`: what a node says of itself, read strictly, then recorded by the service."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connections

from registry.errors import InvalidInput
from registry.fleet.answers import Ask, Refusal
from registry.fleet.heads import NodeKey
from registry.models import ServingNode
from registry.services.nodes import record_node_report
from registry.web.bodies import parse_body

MAX_REPORT_BYTES = 1024 * 1024
_TEXTS = {
    "result": 7,
    "code": 50,
    "message": 2000,
    "node": 100,
    "environment": 50,
    "boot_id": 100,
    "engine": 200,
    "fingerprint": 64,
    "node_utc": 40,
}
_INTEGERS = ("revision", "seq")
_OBJECTS = ("applied", "counters")


# Reports are the one thing here that takes a database connection each; a storm of them must not take all there are.
_RECORDING = ThreadPoolExecutor(4, thread_name_prefix="node-reports")


async def take_report(ask: Ask, name: str) -> None:
    """A node reports as itself only. Raises: Refusal 401, 403, 413; as `read_report`; InvalidInput REPORT_RESULT, REPORT_CODE."""
    node = await ask.identify()
    if name not in (node.name, node.id):
        raise Refusal(403, "NODE", f"this token is {node.name}'s, who reports as itself only")
    report = read_report(node, await ask.read_body(MAX_REPORT_BYTES))
    await asyncio.get_running_loop().run_in_executor(_RECORDING, _record_and_close, node, report)
    await ask.answer(204, {"Cache-Control": "no-store"})


def read_report(node: NodeKey, body: bytes) -> dict[str, Any]:
    """The report in a body. An unknown field is refused: a node that means something by it would be misunderstood.

    Raises: InvalidInput REPORT_SHAPE, REPORT_FIELD; CanonicalError JSON_*; Refusal 403 for another's name.
    """
    report = parse_body(body, max_bytes=MAX_REPORT_BYTES, max_depth=16)
    if not isinstance(report, dict) or "result" not in report:
        raise InvalidInput("REPORT_SHAPE", "a report is an object with at least a result", "result")
    for name, value in report.items():
        if not _is_well_formed(name, value):
            raise InvalidInput("REPORT_FIELD", f"field {name[:50]!r} is unknown, or not of its type, or too long", name[:50])
    for field, code, own in (("node", "NODE", node.name), ("environment", "ENVIRONMENT", node.environment)):
        if report.get(field, own) != own:
            raise Refusal(403, code, f"{node.name} of {node.environment} reports as {field} {report[field]!r}")
    return report


def _is_well_formed(name: str, value: Any) -> bool:
    if name in _TEXTS:
        return isinstance(value, str) and len(value) <= _TEXTS[name]
    if name in _INTEGERS:
        is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
        return is_count or (name == "revision" and value is None)
    if name in _OBJECTS:
        return isinstance(value, dict) or (name == "applied" and value is None)
    return name == "slots" and isinstance(value, list)


def _record_and_close(node: NodeKey, report: dict[str, Any]) -> None:
    try:
        record_node_report(ServingNode(pk=node.id), report=report)
    finally:
        # This thread has no request whose end would close its connection.
        connections.close_all()
