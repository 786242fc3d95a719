"""The hub's keys, what each signs and when, and the trust document that nodes check them against.

The private keys are in the settings, one or several for each purpose; since when and until when each counts is on record. During an
overlap the old and the new one both sign, so that a node which knows either follows.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from registry.models import SigningKey, TrustDocument
from steernode.canonical import canonical_json, sha256_hex
from steernode.dsse import (
    HUB,
    OFFLINE_STOP,
    SNAPSHOT,
    STOP,
    TRUST_SCHEMA,
    TRUST_TYPE,
    key_id,
    read_public_key,
    sign_payload,
    write_envelope,
    write_public_key,
)
from steernode.errors import FieldError
from steernode.snapshot.document import PAYLOAD_TYPE
from steernode.stop.document import PAYLOAD_TYPE as STOP_PAYLOAD_TYPE
from steernode.strict import format_time

SETTINGS = {SNAPSHOT: "STEERHUB_SIGNING_KEY", STOP: "STEERHUB_STOP_KEY"}
# How long a key counts that nobody said an end for: from when the hub first signs with it.
KEY_LIVES = timedelta(days=730)
# A node's clock may be behind by so much and still believe a key that is new.
CLOCKS_DIFFER = timedelta(minutes=10)
# Web processes that are being restarted with other keys disagree for a while; in this time none goes back to what another has replaced.
SETTLING = timedelta(minutes=10)
# Offline keys count for as long as the settings name them.
_ALWAYS = datetime(2026, 1, 1, tzinfo=UTC)
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)


def private_keys(purpose: str) -> list[Ed25519PrivateKey]:
    """Those of the setting, in its order, which is that of their age. Raises: ValueError unless it is Ed25519 private keys in PEM."""
    name = SETTINGS[purpose]
    keys = [load_pem_private_key(pem.encode(), password=None) for pem in _PEM.findall(getattr(settings, name))]
    if not keys:
        raise ValueError(f"{name} holds no private key in PEM")
    if not all(isinstance(key, Ed25519PrivateKey) for key in keys):
        raise ValueError(f"{name} is not an Ed25519 private key")
    return [key for key in keys if isinstance(key, Ed25519PrivateKey)]


def signing_key() -> Ed25519PrivateKey:
    """The newest key for snapshots. Raises: as `private_keys`."""
    return private_keys(SNAPSHOT)[-1]


def stop_key() -> Ed25519PrivateKey:
    """The newest key for stop statements. Raises: as `private_keys`."""
    return private_keys(STOP)[-1]


def offline_stop_keys() -> dict[str, Ed25519PublicKey]:
    """Who may stop the fleet without the hub, by name. Raises: ValueError unless STEERHUB_OFFLINE_STOP_KEYS is pairs of both."""
    keys: dict[str, Ed25519PublicKey] = {}
    for pair in settings.STEERHUB_OFFLINE_STOP_KEYS:
        name = pair[0].strip()
        if len(pair) != 2 or not name.isprintable() or not 1 <= len(name) <= 100 or name in (HUB, *keys):
            raise ValueError(f"STEERHUB_OFFLINE_STOP_KEYS: {pair[0]!r} is no pair of a name of its own and a key")
        try:
            keys[name] = read_public_key(pair[1].strip(), name)
        except FieldError as error:
            raise ValueError(f"STEERHUB_OFFLINE_STOP_KEYS: {error.message}") from error
    return keys


def sign_snapshot(payload: bytes) -> list[dict[str, str]]:
    """The signatures of a DSSE envelope over exactly these bytes."""
    return sign_for(SNAPSHOT, payload, PAYLOAD_TYPE)


def sign_stop(payload: bytes) -> list[dict[str, str]]:
    """As `sign_snapshot`, of a stop statement."""
    return sign_for(STOP, payload, STOP_PAYLOAD_TYPE)


def sign_for(purpose: str, payload: bytes, payload_type: str) -> list[dict[str, str]]:
    """The signatures of a DSSE envelope, by every key of the hub that signs for this purpose now: snapshot or stop."""
    return [sign_payload(payload, payload_type, key) for key in _keys_that_sign(purpose)]


def key_rows(purpose: str) -> dict[str, SigningKey]:
    """What is on record of the keys of this purpose, by id. A key that the settings name and the record does not is put on record."""
    held = {key_id(key.public_key()): key.public_key() for key in private_keys(purpose)}
    rows = {row.keyid: row for row in SigningKey.objects.filter(purpose=purpose)}
    new = [
        SigningKey(keyid=keyid, public_key=write_public_key(public), purpose=purpose, not_before=_first_moment(), not_after=_last_moment())
        for keyid, public in held.items()
        if keyid not in rows
    ]
    if new:
        # Another process may be first.
        SigningKey.objects.bulk_create(new, ignore_conflicts=True)
        rows = {row.keyid: row for row in SigningKey.objects.filter(purpose=purpose)}
    return rows


def _first_moment() -> datetime:
    return timezone.now().replace(microsecond=0) - CLOCKS_DIFFER


def _last_moment() -> datetime:
    return timezone.now().replace(microsecond=0) + KEY_LIVES


def _keys_that_sign(purpose: str) -> list[Ed25519PrivateKey]:
    """Every key in force. Where none is, the newest that is not revoked: a stop that nodes doubt is better than none, and checks shout."""
    rows = key_rows(purpose)
    held = [(key, rows.get(key_id(key.public_key()))) for key in private_keys(purpose)]
    usable = [(key, row) for key, row in held if row is not None and row.revoked_at is None]
    in_force = [key for key, row in usable if _is_in_force(row)]
    return in_force or [key for key, _row in (usable or held)][-1:]


def _is_in_force(row: SigningKey) -> bool:
    return row.revoked_at is None and row.not_before <= timezone.now() <= row.not_after


def needs_signing_anew(purpose: str, signatures: Sequence[Mapping[str, str]]) -> bool:
    """Whether no key that made these signatures is in force any more, and this process holds one that is."""
    in_force = {keyid for keyid, row in key_rows(purpose).items() if _is_in_force(row)}
    held = {key_id(key.public_key()) for key in private_keys(purpose)}
    return in_force.isdisjoint(signature["keyid"] for signature in signatures) and not in_force.isdisjoint(held)


def trust_document() -> dict[str, Any]:
    """The public keys a node should trust. Give it to the node by another road than the hub's own URL where you can."""
    document = _newest_document()
    return {"schema": TRUST_SCHEMA, "version": document.version, "keys": document.keys}


def sign_trust() -> tuple[int, bytes]:
    """The version of the trust document, and its envelope: signed by every snapshot key that the hub has, one that is revoked included,
    because a node that knows no other learns of the revocation by it."""
    document = trust_document()
    payload = canonical_json(document)
    return document["version"], write_envelope(
        payload, TRUST_TYPE, [sign_payload(payload, TRUST_TYPE, key) for key in private_keys(SNAPSHOT)]
    )


def _newest_document() -> TrustDocument:
    """The document of the keys as they are now; a new version where they are not those of the last."""
    keys, now = _describe_keys(), timezone.now()
    digest = sha256_hex(canonical_json(keys))
    newest = TrustDocument.objects.first()
    if newest is not None and newest.digest == digest:
        return newest
    if newest is not None and now - newest.created_at < SETTLING:
        replaced = TrustDocument.objects.filter(digest=digest, created_at__gt=now - SETTLING).first()
        if replaced is not None:
            return replaced
    # From the clock, so that a hub restored from a backup does not begin below what nodes hold.
    version = max(int(now.timestamp() * 1000), newest.version + 1 if newest else 0)
    document, _is_new = TrustDocument.objects.get_or_create(version=version, defaults={"digest": digest, "keys": keys, "created_at": now})
    return document


def _describe_keys() -> list[dict[str, Any]]:
    for purpose in SETTINGS:
        key_rows(purpose)
    # By a key that has ended a stop lets go of nothing; but it stops, or a key that somebody forgot to change would keep it from everybody.
    counting = SigningKey.objects.filter(Q(not_after__gt=timezone.now()) | Q(purpose=STOP), revoked_at=None)
    counting = counting.order_by("purpose", "not_before", "keyid")
    described = [
        _describe(row.keyid, row.public_key, format_time(row.not_before), format_time(row.not_after), row.purpose, HUB) for row in counting
    ]
    for name, public in sorted(offline_stop_keys().items()):
        described.append(_describe(key_id(public), write_public_key(public), format_time(_ALWAYS), None, OFFLINE_STOP, name))
    return described


def _describe(keyid: str, public_key: str, not_before: str, not_after: str | None, purpose: str, issuer: str) -> dict[str, Any]:
    dates = {"not_before": not_before, "not_after": not_after}
    return {"keyid": keyid, "public_key": public_key, **dates, "purposes": [purpose], "issuer": issuer}
