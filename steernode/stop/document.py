"""The stop statement: the small signed document that says what is stopped, everywhere. Written by the hub or offline, read strictly.

It is one document for all environments, so that whoever holds it needs no other. Whether to believe one, and what to let go, is in `held`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from steernode.canonical import canonical_json, parse_strict
from steernode.errors import CanonicalError, FieldError, StopRefused
from steernode.strict import (
    format_time,
    read_exactly,
    read_hexadecimal,
    read_integer,
    read_list,
    read_one_of,
    read_text,
    read_time,
    refused_as,
)
from steernode.words import KILL_KINDS

SCHEMA = "steerhub.stop/1"
PAYLOAD_TYPE = "application/vnd.steerhub.stop.v1+json"
HUB = "hub"
# Ten thousand kills are a megabyte. A stop is never refused for its size by who writes it; this only bounds what a stranger can send.
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
MAX_ENVELOPE_BYTES = MAX_PAYLOAD_BYTES * 4 // 3 + 64 * 1024
_FIELDS = ("schema", "issuer", "sequence", "issued_at", "reason", "kills", "released", "adopted")
# Of a kill, and of an offline stop as a whole.
_ID_DIGITS, _DIGEST_DIGITS = 32, 64
MAX_REASON = 1_000


@dataclass(frozen=True, slots=True, order=True)
class StoppedKill:
    """One kill of a statement. `environment` is the only one that it reaches; empty for all of them.

    The target of everything is `*`; of an environment it is the environment, and `environment` is empty. `id` is never used again, not
    even by a registry that was restored from a backup, so that a lift is of this kill and no other.
    """

    kind: str
    environment: str
    target: str
    id: str

    def reaches(self, environment: str) -> bool:
        return self.environment in ("", environment) and (self.kind != "environment" or self.target == environment)


def name_target(kind: str, target: str, environment: str) -> tuple[str, str]:
    """The target and the environment of a kill as `StoppedKill` has them, from what somebody names.

    Whether there is such a thing is not asked. An environment may be named in either way; everything has no name but that by which
    it is told. Raises: FieldError target.
    """
    if kind not in ("everything", "environment"):
        return target, environment
    named = {target, environment} - {""} - ({"*"} if kind == "everything" else set())
    if len(named) > (1 if kind == "environment" else 0):
        raise FieldError("target", f"of a kill of {kind} cannot be {' and '.join(map(repr, sorted(named)))}")
    return min(named, default="*" if kind == "everything" else ""), ""


@dataclass(frozen=True, slots=True)
class StopStatement:
    """What one statement says.

    `sequence` rises over all statements of the hub; it decides about letting go, and about nothing else. `released` names what was lifted:
    kills by their id, offline stops by the sha256 of their payload. `adopted` names the offline stops that the hub has on record. An
    offline statement, whose `issuer` is not the hub, releases and adopts nothing. Its `reason` is why it was written; the hub keeps the
    reasons of its kills on record, and says none here.
    """

    issuer: str
    sequence: int
    issued_at: datetime
    kills: tuple[StoppedKill, ...]
    released: frozenset[str] = frozenset()
    adopted: frozenset[str] = frozenset()
    reason: str = ""


def write_stop(statement: StopStatement) -> bytes:
    """The canonical bytes to sign: the same of equal statements. A kill costs its names, its id and seven bytes.

    Raises: StopRefused SCHEMA for what `parse_stop` would refuse.
    """
    document = {
        "schema": SCHEMA,
        "issuer": statement.issuer,
        "sequence": statement.sequence,
        "issued_at": format_time(statement.issued_at),
        "reason": statement.reason,
        "kills": [
            {"kind": kind, "environment": environment, "targets": [[kill.target, kill.id] for kill in kills]}
            for (kind, environment), kills in groupby(sorted(statement.kills), key=lambda kill: (kill.kind, kill.environment))
        ],
        "released": sorted(statement.released),
        "adopted": sorted(statement.adopted),
    }
    payload = canonical_json(document)
    parse_stop(payload)
    return payload


@refused_as(StopRefused, "SCHEMA")
def parse_stop(payload: bytes) -> StopStatement:
    """The statement in these signed bytes. Raises: StopRefused SCHEMA, naming the field."""
    try:
        document = parse_strict(payload, max_bytes=MAX_PAYLOAD_BYTES)
    except CanonicalError as error:
        raise FieldError("payload", error.message) from error
    read_exactly(document, "payload", _FIELDS)
    if document["schema"] != SCHEMA:
        raise FieldError("schema", f"of a stop must be {SCHEMA!r}")
    kills = [kill for group in read_list(document["kills"], "kills", _read_group) for kill in group]
    if len({kill.id for kill in kills}) != len(kills):
        raise FieldError("kills", "list one id twice")
    statement = StopStatement(
        issuer=read_text(document["issuer"], "issuer"),
        sequence=read_integer(document["sequence"], "sequence", least=1),
        issued_at=read_time(document["issued_at"], "issued_at"),
        kills=tuple(sorted(kills)),
        released=frozenset(read_list(document["released"], "released", _read_released)),
        adopted=frozenset(read_list(document["adopted"], "adopted", _read_digest)),
        reason=read_text(document["reason"], "reason", least=0, most=MAX_REASON),
    )
    if statement.issuer != HUB and (statement.released or statement.adopted):
        raise FieldError("released", "must be empty in a statement that is not the hub's: only the hub lets go")
    return statement


def _read_group(value: Any, path: str) -> Iterable[StoppedKill]:
    read_exactly(value, path, ("kind", "environment", "targets"))
    kind = read_one_of(value["kind"], f"{path}.kind", KILL_KINDS)
    environment = read_text(value["environment"], f"{path}.environment", least=0)
    if environment and kind not in ("profile", "tenant"):
        raise FieldError(f"{path}.environment", f"must be empty for a kill of {kind}")

    def read_target(pair: Any, where: str) -> StoppedKill:
        if not isinstance(pair, list) or len(pair) != 2:
            raise FieldError(where, "must be a target and an id")
        return StoppedKill(kind, environment, read_text(pair[0], where), read_hexadecimal(pair[1], where, _ID_DIGITS))

    return read_list(value["targets"], f"{path}.targets", read_target)


def _read_digest(value: Any, path: str) -> str:
    return read_hexadecimal(value, path, _DIGEST_DIGITS)


def _read_released(value: Any, path: str) -> str:
    return read_hexadecimal(value, path, _ID_DIGITS, _DIGEST_DIGITS)
