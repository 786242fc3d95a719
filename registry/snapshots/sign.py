"""The hub's signing key and the trust document that nodes check it against."""

import base64
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from django.conf import settings

from steernode.dsse import key_id, sign_payload
from steernode.snapshot.document import PAYLOAD_TYPE


def signing_key() -> Ed25519PrivateKey:
    """The key of STEERHUB_SIGNING_KEY. Raises: ValueError unless it is an Ed25519 private key in PEM."""
    key = load_pem_private_key(settings.STEERHUB_SIGNING_KEY.encode(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("STEERHUB_SIGNING_KEY is not an Ed25519 private key")
    return key


def sign_snapshot(payload: bytes) -> list[dict[str, str]]:
    """The signatures of a DSSE envelope over exactly these bytes."""
    return [sign_payload(payload, PAYLOAD_TYPE, signing_key())]


def trust_document() -> dict[str, Any]:
    """The public keys a node should trust. Give it to the node by another road than the hub's own URL where you can."""
    public = signing_key().public_key()
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {
        "schema": "steerhub.trust/1",
        "keys": [
            {
                "keyid": key_id(public),
                "public_key": base64.b64encode(raw).decode(),
                "not_before": "2026-01-01T00:00:00Z",
                "not_after": "2036-01-01T00:00:00Z",
            }
        ],
    }
