"""A node's report: what `steernode.node.report` writes and signs, and how the hub reads it.

Its envelope is signed with the node's own key, under this payload type. Reading is strict: a field that is unknown or missing is
refused, because a node that means something by it would be misunderstood.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from steernode.errors import FieldError
from steernode.strict import read_digest, read_exactly, read_hexadecimal, read_integer, read_list, read_text, read_time

REPORT_TYPE = "application/vnd.steerhub.node-report.v1+json"
# A node tells of so many kills that it holds beyond the newest statement, and profiles that it cannot serve.
MAX_SURPLUS = MAX_UNSERVABLE = 50
# Room to count on, even for whoever has to go above what a node that lies claims to have seen.
MAX_NUMBER = 2**53 - 1
_MAX_CAPABILITIES = 200
_FIELDS = (
    *("result", "code", "message", "revision", "seq", "boot_id", "node", "environment", "engine", "capabilities", "fingerprint"),
    *("applied", "highest_revision", "stop", "unservable", "slots", "counters", "node_utc"),
)
# What a report says of the snapshot in force.
APPLIED = ("revision", "content_digest", "etag", "accepted_at", "last_contact_at", "last_contact_seconds", "expires_in_seconds")


@dataclass(frozen=True, slots=True)
class StopHeld:
    """The newest stop statement a node has read, how many kills it obeys, and those of them that this statement does not list."""

    sequence: int
    digest: str
    held: int
    surplus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unservable:
    """A profile of the applied snapshot that the node cannot serve, and why. Its tenants are not steered there."""

    profile: str
    revision: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a node says of itself. `applied` is the (revision, content digest) in force, whatever became of the newest snapshot;
    `revision` is that one, or in a NACK the one refused. `seq` counts the reports of one boot."""

    result: str
    code: str
    message: str
    revision: int | None
    seq: int
    boot_id: str
    node: str
    environment: str
    engine: str
    capabilities: tuple[str, ...]
    fingerprint: str
    applied: tuple[int, str] | None
    highest_revision: int | None
    stop: StopHeld | None
    unservable: tuple[Unservable, ...]
    slots: list[Any]
    counters: dict[str, Any]
    node_utc: datetime

    @classmethod
    def from_document(cls, document: Any) -> Report:
        """Raises: FieldError."""
        read_exactly(document, "report", _FIELDS)
        report = cls(
            # A result that is unknown is for the hub to refuse by its own code.
            result=_read_words(document["result"], "result", most=20),
            code=_read_words(document["code"], "code", most=50),
            message=_read_words(document["message"], "message", most=2000),
            revision=_read_number(document["revision"], "revision"),
            seq=_need_number(document["seq"], "seq", least=1),
            boot_id=read_text(document["boot_id"], "boot_id")[:100],
            node=read_text(document["node"], "node"),
            environment=read_text(document["environment"], "environment"),
            engine=read_text(document["engine"], "engine"),
            capabilities=_read_some(document["capabilities"], "capabilities", read_text, most=_MAX_CAPABILITIES),
            fingerprint=read_digest(document["fingerprint"], "fingerprint"),
            applied=_read_applied(document["applied"]),
            highest_revision=_read_number(document["highest_revision"], "highest_revision"),
            stop=_read_stop(document["stop"]),
            unservable=_read_some(document["unservable"], "unservable", _read_unservable, most=MAX_UNSERVABLE),
            slots=_need(document["slots"], "slots", list),
            counters=_need(document["counters"], "counters", dict),
            node_utc=read_time(document["node_utc"], "node_utc"),
        )
        if report.result == "ACK" and (report.applied is None or report.applied[0] != report.revision):
            raise FieldError("applied", "of an ACK is the very revision that it accepts")
        return report


def _read_applied(value: Any) -> tuple[int, str] | None:
    if value is None:
        return None
    read_exactly(value, "applied", APPLIED)
    return _need_number(value["revision"], "applied.revision", least=1), read_digest(value["content_digest"], "applied.content_digest")


def _read_stop(value: Any) -> StopHeld | None:
    if value is None:
        return None
    read_exactly(value, "stop", ("sequence", "digest", "held", "surplus"))
    return StopHeld(
        sequence=_need_number(value["sequence"], "stop.sequence"),
        digest=read_digest(value["digest"], "stop.digest"),
        held=_need_number(value["held"], "stop.held"),
        surplus=_read_some(value["surplus"], "stop.surplus", lambda key, path: read_hexadecimal(key, path, 32), most=MAX_SURPLUS),
    )


def _read_unservable(value: Any, path: str) -> Unservable:
    read_exactly(value, path, ("profile", "revision", "code", "message"))
    return Unservable(
        profile=read_text(value["profile"], f"{path}.profile"),
        revision=_need_number(value["revision"], f"{path}.revision", least=1),
        code=_read_words(value["code"], f"{path}.code", most=50),
        message=_read_words(value["message"], f"{path}.message", most=2000),
    )


def _read_some(value: Any, path: str, read: Any, *, most: int) -> tuple[Any, ...]:
    items = read_list(value, path, read)
    if len(items) > most:
        raise FieldError(path, f"has {len(items)} items, at most {most} are read")
    return items


def _read_number(value: Any, path: str) -> int | None:
    return None if value is None else _need_number(value, path)


def _need_number(value: Any, path: str, *, least: int = 0) -> int:
    number = read_integer(value, path, least=least)
    if number > MAX_NUMBER:
        raise FieldError(path, f"must be at most {MAX_NUMBER}")
    return number


def _read_words(value: Any, path: str, *, most: int) -> str:
    """Text as people and programs wrote it, line breaks and all."""
    if not isinstance(value, str) or len(value) > most:
        raise FieldError(path, f"must be text of at most {most} characters")
    return value


def _need(value: Any, path: str, kind: type) -> Any:
    if not isinstance(value, kind):
        raise FieldError(path, f"must be {'a list' if kind is list else 'an object'}")
    return value
