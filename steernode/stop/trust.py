"""Which stop statements a node believes: decided from bytes, keys and times, without a file or a socket."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from steernode.canonical import sha256_hex
from steernode.dsse import OFFLINE_STOP, STOP, TrustedKey, TrustedKeys, open_signed, read_unverified
from steernode.errors import SnapshotRefused, StopRefused
from steernode.stop.document import HUB, MAX_ENVELOPE_BYTES, PAYLOAD_TYPE, StopStatement, parse_stop


def believe_stop(envelope: bytes, *, keys: TrustedKeys, moments: Iterable[datetime]) -> tuple[StopStatement, str, bool]:
    """The statement, the sha256 of its payload, and whether it may let go of anything.

    It may if a key of its issuer counts at one of `moments`. What it stops is stopped by any key that the trust document names, whatever
    the time: a clock that is wrong must not keep a stop out. Raises: StopRefused LIMIT, ENVELOPE, SIGNATURE, SCHEMA, ISSUER.
    """
    for moment in moments:
        try:
            return *_open(envelope, keys, moment), True
        except StopRefused as refusal:
            if refusal.code != "SIGNATURE":
                raise
    return *_open(envelope, TrustedKeys(tuple(map(_without_end, keys.keys))), datetime.now(UTC)), False


def read_stop(envelope: bytes) -> tuple[StopStatement, str]:
    """As `believe_stop`, of an envelope whose signature was checked before. Raises: StopRefused LIMIT, ENVELOPE, SCHEMA."""
    try:
        payload = read_unverified(envelope, payload_type=PAYLOAD_TYPE, max_bytes=MAX_ENVELOPE_BYTES)
    except SnapshotRefused as error:
        raise StopRefused(error.code, error.message, error.item) from error
    return parse_stop(payload), sha256_hex(payload)


def _open(envelope: bytes, keys: TrustedKeys, moment: datetime) -> tuple[StopStatement, str]:
    signers: list[TrustedKey] = []
    for purpose in (STOP, OFFLINE_STOP):
        try:
            payload, found = open_signed(
                envelope, keys=keys, payload_type=PAYLOAD_TYPE, now=moment, purpose=purpose, max_bytes=MAX_ENVELOPE_BYTES
            )
        except SnapshotRefused as error:
            if error.code == "SIGNATURE":
                continue
            raise StopRefused(error.code, error.message, error.item) from error
        statement = parse_stop(payload)
        if (purpose == STOP) == (statement.issuer == HUB) and statement.issuer in {key.issuer for key in found}:
            return statement, sha256_hex(payload)
        signers += found
    if not signers:
        raise StopRefused("SIGNATURE", "no key that is trusted for stops signed the statement")
    held_by = ", ".join(sorted({key.issuer for key in signers}))
    raise StopRefused("ISSUER", f"it says to be of {statement.issuer!r}, and is signed with a key of {held_by}", statement.issuer)


def _without_end(key: TrustedKey) -> TrustedKey:
    return replace(key, not_before=datetime.min.replace(tzinfo=UTC), not_after=None)
