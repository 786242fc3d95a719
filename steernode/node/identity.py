"""Who a node is: its name, its own key pair and its token, in one file that only it reads. Made by enrolling, and again for a rotation.

Whatever a node vouches for, reports and receipts alike, it signs with this key.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from steernode.canonical import canonical_json, parse_strict
from steernode.dsse import MAX_TRUST_BYTES, TrustedKeys, sign_envelope
from steernode.errors import CanonicalError, FieldError, HubError, NodeError
from steernode.hub.client import FleetClient, enroll
from steernode.node.store import read_file, write_atomically
from steernode.strict import read_exactly, read_text, refused_as

IDENTITY_SCHEMA = "steerhub.node-identity/1"
IDENTITY_FILE, TRUST_FILE = "node.json", "trust.json"
_MAX_BYTES = 16 * 1024
_FOLLOWING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Identity:
    """One enrolled node of one hub."""

    hub_url: str
    environment: str
    name: str
    token: str
    key: Ed25519PrivateKey

    def sign(self, payload: bytes, payload_type: str) -> bytes:
        """The envelope of what this node vouches for."""
        return sign_envelope(payload, payload_type, self.key)

    def connect(self, hub_url: str = "") -> FleetClient:
        """A connection to the hub it is enrolled with, by another address if one is given."""
        return FleetClient(hub_url or self.hub_url, self.environment, self.name, self.token, self.key)


def read_identity(folder: Path) -> Identity | None:
    """The node whose store this is; None before it has enrolled. Raises: NodeError STORE_CORRUPT."""
    data = read_file(folder / IDENTITY_FILE, _MAX_BYTES)
    if data is None:
        return None
    try:
        document = parse_strict(data)
    except CanonicalError as error:
        raise NodeError("STORE_CORRUPT", f"{folder / IDENTITY_FILE}: {error.message}", IDENTITY_FILE) from error
    with refused_as(NodeError, "STORE_CORRUPT"):
        read_exactly(document, IDENTITY_FILE, ("schema", "hub_url", "environment", "name", "token", "private_key"))
        if document["schema"] != IDENTITY_SCHEMA:
            raise FieldError("schema", f"of {IDENTITY_FILE} must be {IDENTITY_SCHEMA!r}")
        texts = {name: read_text(document[name], name) for name in ("hub_url", "environment", "name", "token")}
        return Identity(**texts, key=_read_key(document["private_key"]))


def enroll_here(
    folder: Path, *, hub_url: str, name: str, secret: str, trust: Mapping[str, Any] | None = None, keep_key: bool = False
) -> Identity:
    """Make a key pair in this folder and enrol with it by a one-time token. Again, for a rotation: another key, unless `keep_key`.

    `trust` is the trust document that was brought here by another road; without it the hub's own word is taken, this once.
    Raises: HubError, as the hub refuses; NodeError TRUST_FILE, STORE_CORRUPT, CACHE_UNWRITABLE. Nothing here changes until
    the hub has agreed.
    """
    known = read_identity(folder) if keep_key else None
    key = known.key if known else Ed25519PrivateKey.generate()
    # The token is for once, so a folder that cannot be written is better found out before it is used.
    probe = folder / f"{IDENTITY_FILE}.new"
    write_atomically(probe, b"")
    probe.unlink()
    answer = enroll(hub_url, name, secret, key)
    environment, token = answer.get("environment"), answer.get("token")
    if not isinstance(environment, str) or not isinstance(token, str) or not isinstance(answer.get("trust"), dict):
        raise HubError("HUB_ANSWER", "the answer to POST /fleet/v1/enroll has no environment, token or trust document")
    trusted = dict(trust or answer["trust"])
    TrustedKeys.from_document(trusted)
    document = {
        "schema": IDENTITY_SCHEMA,
        "hub_url": hub_url,
        "environment": environment,
        "name": name,
        "token": token,
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    }
    write_atomically(folder / TRUST_FILE, canonical_json(trusted))
    write_atomically(folder / IDENTITY_FILE, canonical_json(document))
    return Identity(hub_url, environment, name, token, key)


def read_trust(path: Path) -> dict[str, Any]:
    """A trust document that can be read. Raises: NodeError TRUST_FILE; SnapshotRefused SCHEMA naming the field."""
    try:
        document = parse_strict(path.read_bytes(), max_bytes=MAX_TRUST_BYTES)
    except OSError as error:
        raise NodeError("TRUST_FILE", f"cannot read {path}: {error.strerror or error}", str(path)) from error
    except CanonicalError as error:
        raise NodeError("TRUST_FILE", f"{path}: {error.message}", str(path)) from error
    TrustedKeys.from_document(document)
    return dict(document)


def read_trusted(folder: Path, given: dict[str, Any] | None = None) -> TrustedKeys:
    """The keys that the node with this store trusts: those of the document `given` by another road, or of a newer one that it followed.

    Raises: as `read_trust`.
    """
    brought = TrustedKeys.from_document(given) if given else None
    path = folder / TRUST_FILE
    kept = TrustedKeys.from_document(read_trust(path)) if brought is None or path.exists() else None
    if kept is None or (brought is not None and brought.version > kept.version):
        write_atomically(path, canonical_json(given))
        return brought or TrustedKeys(())
    return kept


class TellsTrust(Protocol):
    """What a node follows the hub's keys by; `hub.client.FleetClient` is the real one."""

    def signed_trust(self, version: int) -> bytes | None: ...


def follow_trust(folder: Path, keys: TrustedKeys, client: TellsTrust, now: datetime) -> bool:
    """Take up, in place and on disk, the hub's newest trust document, if a key that is trusted already signed it; says whether it was new.

    So a rotation needs nobody at the node, and a key that the hub revoked counts no longer.
    Raises: HubError; SnapshotRefused; NodeError CACHE_UNWRITABLE.
    """
    envelope = client.signed_trust(keys.version)
    if envelope is None:
        return False
    # Two roads of one node may hear of a rotation at once, and of two at once.
    with _FOLLOWING:
        document = keys.follow(envelope, now)
        if document is not None:
            write_atomically(folder / TRUST_FILE, canonical_json(document))
    return document is not None


def _read_key(pem: Any) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(str(pem).encode(), password=None)
    except ValueError as error:
        raise FieldError("private_key", "is no private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise FieldError("private_key", "is no Ed25519 key")
    return key
