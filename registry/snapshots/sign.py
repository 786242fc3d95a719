"""The hub's keys, what each signs, and the trust document that nodes check them against."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.conf import settings

from steernode.dsse import HUB, OFFLINE_STOP, SNAPSHOT, STOP, TRUST_SCHEMA, key_id, read_public_key, sign_payload, write_public_key
from steernode.errors import FieldError
from steernode.snapshot.document import PAYLOAD_TYPE
from steernode.stop.document import PAYLOAD_TYPE as STOP_PAYLOAD_TYPE


def signing_key() -> Ed25519PrivateKey:
    """The key of STEERHUB_SIGNING_KEY, for snapshots. Raises: ValueError unless it is an Ed25519 private key in PEM."""
    return _read_private_key("STEERHUB_SIGNING_KEY")


def stop_key() -> Ed25519PrivateKey:
    """The key of STEERHUB_STOP_KEY, for stop statements. Raises: as `signing_key`."""
    return _read_private_key("STEERHUB_STOP_KEY")


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
    key = {SNAPSHOT: signing_key, STOP: stop_key}[purpose]()
    return [sign_payload(payload, payload_type, key)]


def trust_document() -> dict[str, Any]:
    """The public keys a node should trust. Give it to the node by another road than the hub's own URL where you can."""
    keys = [(signing_key().public_key(), SNAPSHOT, HUB), (stop_key().public_key(), STOP, HUB)]
    keys += [(key, OFFLINE_STOP, name) for name, key in sorted(offline_stop_keys().items())]
    return {
        "schema": TRUST_SCHEMA,
        "keys": [
            {
                "keyid": key_id(public),
                "public_key": write_public_key(public),
                "not_before": "2026-01-01T00:00:00Z",
                "not_after": "2036-01-01T00:00:00Z",
                "purposes": [purpose],
                "issuer": issuer,
            }
            for public, purpose, issuer in keys
        ],
    }


def _read_private_key(setting: str) -> Ed25519PrivateKey:
    key = load_pem_private_key(getattr(settings, setting).encode(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{setting} is not an Ed25519 private key")
    return key
