"""A node's enrolment: the name it was invited by and the key that is its own, in an envelope signed with that very key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from steernode.canonical import canonical_json
from steernode.dsse import read_public_key, sign_envelope, write_public_key
from steernode.strict import read_exactly, read_text

ENROLMENT_TYPE = "application/vnd.steerhub.node-enrolment.v1+json"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a node asks for. That it has the private half is in the signature, not in here."""

    name: str
    public_key: Ed25519PublicKey

    @classmethod
    def from_document(cls, document: Any) -> Enrolment:
        """Raises: FieldError."""
        read_exactly(document, "enrolment", ("name", "public_key"))
        return cls(read_text(document["name"], "name"), read_public_key(document["public_key"], "public_key"))


def sign_enrolment(name: str, key: Ed25519PrivateKey) -> bytes:
    """The envelope to send."""
    document = {"name": name, "public_key": write_public_key(key.public_key())}
    return sign_envelope(canonical_json(document), ENROLMENT_TYPE, key)
