"""Signed envelopes, DSSE (secure-systems-lab/dsse) with Ed25519: write one, open one, and the keys that are trusted.

A key id is only a hint: trust comes from the key that verifies.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from steernode.canonical import canonical_json, parse_strict
from steernode.errors import CanonicalError, FieldError, SnapshotRefused
from steernode.strict import read_exactly, read_integer, read_list, read_text, read_time, refused_as

TRUST_SCHEMA = "steerhub.trust/1"
TRUST_TYPE = "application/vnd.steerhub.trust.v1+json"
# What a key may sign. A signature for one purpose says nothing for another.
SNAPSHOT, STOP, OFFLINE_STOP = "snapshot", "stop", "offline-stop"
# Who holds a key that the trust document names nobody for.
HUB = "hub"
MAX_TRUST_BYTES = 256 * 1024
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
# Base64 makes the payload a third longer; the rest is room for signatures.
MAX_ENVELOPE_BYTES = MAX_PAYLOAD_BYTES * 4 // 3 + 64 * 1024
_MAX_SIGNATURES = 64


def key_id(public_key: Ed25519PublicKey) -> str:
    """The first 16 hexadecimal digits of the sha256 of the raw public key."""
    return hashlib.sha256(public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def write_public_key(public_key: Ed25519PublicKey) -> str:
    """The base64 of the raw 32 bytes, which is how documents hold one."""
    return base64.b64encode(public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode("ascii")


def read_public_key(text: Any, path: str) -> Ed25519PublicKey:
    """Raises: FieldError."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(str(text), validate=True))
    except (ValueError, binascii.Error) as error:
        raise FieldError(path, "must be the base64 of a raw Ed25519 public key, 32 bytes") from error


def encode_preauthentication(payload_type: str, payload: bytes) -> bytes:
    """DSSE's PAE: what is really signed, so that a payload of one type cannot pass for another."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_payload(payload: bytes, payload_type: str, private_key: Ed25519PrivateKey) -> dict[str, str]:
    """One entry of an envelope's signatures."""
    signature = private_key.sign(encode_preauthentication(payload_type, payload))
    return {"keyid": key_id(private_key.public_key()), "sig": base64.b64encode(signature).decode("ascii")}


def write_envelope(payload: bytes, payload_type: str, signatures: Sequence[Mapping[str, str]]) -> bytes:
    """The envelope as the bytes to serve, canonical JSON: the same of the same payload and signatures."""
    rest = canonical_json({"payloadType": payload_type, "signatures": list(signatures)})
    # A megabyte of Base64 has nothing to escape, and its member comes first.
    return b'{"payload":"%b",%b' % (base64.b64encode(payload), rest[1:])


def sign_envelope(payload: bytes, payload_type: str, private_key: Ed25519PrivateKey) -> bytes:
    """The envelope with one signature."""
    return write_envelope(payload, payload_type, [sign_payload(payload, payload_type, private_key)])


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key, when its signatures count and for what, and who holds it. `not_after` is None for a key without a planned end."""

    keyid: str
    public_key: Ed25519PublicKey
    not_before: datetime
    not_after: datetime | None
    purposes: frozenset[str] = frozenset({SNAPSHOT})
    issuer: str = HUB

    def counts_for(self, purpose: str, moment: datetime) -> bool:
        return purpose in self.purposes and self.not_before <= moment and (self.not_after is None or moment <= self.not_after)


@dataclass(slots=True)
class TrustedKeys:
    """The keys of a trust document, which reaches a node by another road than the snapshots it judges.

    Later versions may come over the hub's, signed by a key of the one that is held. `follow` takes them up in place, so that whoever
    holds these keys sees it at once.
    """

    keys: tuple[TrustedKey, ...]
    version: int = 0

    @classmethod
    @refused_as(SnapshotRefused, "SCHEMA")
    def from_document(cls, document: Any) -> TrustedKeys:
        """Raises: SnapshotRefused SCHEMA, naming the field."""
        read_exactly(document, "trust", ("schema", "keys"), optional=("version",))
        if document["schema"] != TRUST_SCHEMA:
            raise FieldError("schema", f"of the trust document must be {TRUST_SCHEMA!r}, got {document['schema']!r}")
        keys = read_list(document["keys"], "keys", _read_key)
        if not keys:
            raise FieldError("keys", "of the trust document are none; a node that trusts no key can accept nothing")
        return cls(keys, read_integer(document.get("version", 0), "version", least=0))

    def follow(self, envelope: bytes, now: datetime) -> dict[str, Any] | None:
        """Take up a newer trust document that a key held here signed, and give it; None for one that is not newer.

        Raises: SnapshotRefused LIMIT, ENVELOPE, SIGNATURE, SCHEMA.
        """
        payload = open_envelope(envelope, keys=self, payload_type=TRUST_TYPE, now=now)
        try:
            document = parse_strict(payload, max_bytes=MAX_TRUST_BYTES)
        except CanonicalError as error:
            raise SnapshotRefused("SCHEMA", f"the trust document is not strict JSON: {error.message}") from error
        newer = TrustedKeys.from_document(document)
        if newer.version <= self.version:
            return None
        if not any(SNAPSHOT in key.purposes for key in newer.keys):
            raise SnapshotRefused(
                "SCHEMA", "the trust document has no key for snapshots; a node that took it could follow nothing any more"
            )
        self.keys, self.version = newer.keys, newer.version
        return dict(document)

    def find_signers(
        self, message: bytes, signatures: Iterable[tuple[str, bytes]], now: datetime, purpose: str = SNAPSHOT
    ) -> dict[str, TrustedKey]:
        """The distinct keys, by id, that made these (key id, signature) pairs and count for this purpose. One that signs twice is one."""
        signers: dict[str, TrustedKey] = {}
        for hint, signature in signatures:
            # The hinted key first, then every other: a wrong or missing hint costs time, never trust.
            for key in sorted(self.keys, key=lambda key: key.keyid != hint):
                if key.counts_for(purpose, now) and _verifies(key.public_key, signature, message):
                    signers[key.keyid] = key
                    break
        return signers


def open_envelope(
    envelope: bytes, *, keys: TrustedKeys, payload_type: str, now: datetime, purpose: str = SNAPSHOT, signers_needed: int = 1
) -> bytes:
    """The payload of an envelope that enough keys trusted for this purpose signed.

    Raises: SnapshotRefused LIMIT, ENVELOPE, SIGNATURE.
    """
    payload, _signers = open_signed(envelope, keys=keys, payload_type=payload_type, now=now, purpose=purpose, signers_needed=signers_needed)
    return payload


def open_signed(
    envelope: bytes,
    *,
    keys: TrustedKeys,
    payload_type: str,
    now: datetime,
    purpose: str,
    signers_needed: int = 1,
    max_bytes: int = MAX_ENVELOPE_BYTES,
) -> tuple[bytes, tuple[TrustedKey, ...]]:
    """As `open_envelope`, and by whom it was signed, for whoever must know the issuer. In the order of their ids."""
    payload, signatures = _read_envelope(envelope, payload_type, max_bytes)
    signers = keys.find_signers(encode_preauthentication(payload_type, payload), signatures, now, purpose)
    if len(signers) < signers_needed:
        hints = ", ".join(sorted({hint for hint, _signature in signatures if hint})) or "no key id"
        raise SnapshotRefused(
            "SIGNATURE",
            f"{len(signers)} of {signers_needed} needed keys trusted for {purpose!r} signed the envelope, which names {hints}",
            hints,
        )
    return payload, tuple(signers[keyid] for keyid in sorted(signers))


def open_from(envelope: bytes, *, public_key: Ed25519PublicKey, payload_type: str) -> bytes:
    """The payload of an envelope that this very key signed: what a node sends to the hub that knows its key.

    Raises: SnapshotRefused ENVELOPE, SIGNATURE.
    """
    return open_self_signed(envelope, find_key=lambda _payload: public_key, payload_type=payload_type)


def open_self_signed(envelope: bytes, *, find_key: Callable[[bytes], Ed25519PublicKey], payload_type: str) -> bytes:
    """As `open_from`, where the payload itself says which key: it proves that whoever sent it has the private half, and nothing else."""
    payload, signatures = _read_envelope(envelope, payload_type)
    public_key = find_key(payload)
    message = encode_preauthentication(payload_type, payload)
    if not any(_verifies(public_key, signature, message) for _hint, signature in signatures):
        raise SnapshotRefused("SIGNATURE", f"the envelope is not signed by the key {key_id(public_key)}", key_id(public_key))
    return payload


def read_unverified(envelope: bytes, *, payload_type: str, max_bytes: int = MAX_ENVELOPE_BYTES) -> bytes:
    """The payload, whoever signed it. Raises: SnapshotRefused LIMIT, ENVELOPE."""
    return _read_envelope(envelope, payload_type, max_bytes)[0]


def _read_envelope(envelope: bytes, payload_type: str, max_bytes: int = MAX_ENVELOPE_BYTES) -> tuple[bytes, list[tuple[str, bytes]]]:
    if len(envelope) > max_bytes:
        raise SnapshotRefused("LIMIT", f"the envelope has {len(envelope)} bytes, at most {max_bytes} are read")
    try:
        document = parse_strict(envelope, max_bytes=max_bytes, max_depth=8)
    except CanonicalError as error:
        raise SnapshotRefused("ENVELOPE", f"the envelope is not strict JSON: {error.message}") from error
    # DSSE lets an envelope carry further fields; nothing outside the signature is believed anyway.
    if not isinstance(document, dict) or document.get("payloadType") != payload_type:
        raise SnapshotRefused("ENVELOPE", f"the envelope must be an object with the payloadType {payload_type!r}")
    entries = document.get("signatures")
    if not isinstance(entries, list) or not 1 <= len(entries) <= _MAX_SIGNATURES:
        raise SnapshotRefused("ENVELOPE", f"the envelope must have 1 to {_MAX_SIGNATURES} signatures")
    signatures = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("keyid", ""), str):
            raise SnapshotRefused("ENVELOPE", "a signature must be an object with a sig and perhaps a text keyid")
        signatures.append((entry.get("keyid", ""), _decode_base64(entry.get("sig"), "sig")))
    return _decode_base64(document.get("payload"), "payload"), signatures


def _decode_base64(text: Any, field: str) -> bytes:
    """Standard and URL-safe alphabets are both DSSE."""
    try:
        if not isinstance(text, str):
            raise TypeError
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise SnapshotRefused("ENVELOPE", f"{field} is not base64", field) from error


def _read_key(value: Any, path: str) -> TrustedKey:
    read_exactly(value, path, ("keyid", "public_key", "not_before", "not_after"), optional=("purposes", "issuer"))
    public_key = read_public_key(value["public_key"], f"{path}.public_key")
    keyid = read_text(value["keyid"], f"{path}.keyid")
    if keyid != key_id(public_key):
        raise FieldError(f"{path}.keyid", f"is {keyid!r}, the key's own id is {key_id(public_key)!r}")
    not_after = value["not_after"]
    return TrustedKey(
        keyid=keyid,
        public_key=public_key,
        not_before=read_time(value["not_before"], f"{path}.not_before"),
        not_after=None if not_after is None else read_time(not_after, f"{path}.not_after"),
        # A purpose that this node does not know is for nothing that it opens. A document of before purposes is about snapshots.
        purposes=frozenset(read_list(value.get("purposes", [SNAPSHOT]), f"{path}.purposes", read_text)),
        issuer=read_text(value.get("issuer", HUB), f"{path}.issuer"),
    )


def _verifies(public_key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        public_key.verify(signature, message)
    except InvalidSignature:
        return False
    return True
