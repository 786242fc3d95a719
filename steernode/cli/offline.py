"""Stopping without the hub: a key for it, the file that it signs, and the way of that file to a node."""

from __future__ import annotations

import json
import os
import shlex
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from steernode.dsse import OFFLINE_STOP, key_id, sign_envelope, write_public_key
from steernode.errors import NodeError, StopRefused
from steernode.node.identity import IDENTITY_FILE
from steernode.node.stopstore import INBOX
from steernode.node.store import write_atomically
from steernode.spelling import spell
from steernode.stop.document import HUB, PAYLOAD_TYPE, StoppedKill, StopStatement, name_target, write_stop
from steernode.strict import refused_as

_MAX_ISSUER = 100


@click.command("stop-key")
@click.option("--issuer", required=True, help="Who will hold it: a name of its own in STEERHUB_OFFLINE_STOP_KEYS.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A new file; keep it off the hub.")
def stop_key(issuer: str, output: Path) -> None:
    """Make a key that can stop steering while the hub is down, and nothing else; print what the hub and the nodes need of it."""
    check_issuer(issuer)
    key = Ed25519PrivateKey.generate()
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except OSError as error:
        raise NodeError("FILE_UNWRITABLE", f"cannot make {output}: {error.strerror or error}", str(output)) from error
    public = write_public_key(key.public_key())
    entry = {
        "keyid": key_id(key.public_key()),
        "public_key": public,
        "not_before": datetime.now(UTC).strftime("%Y-%m-%dT00:00:00Z"),
        "not_after": None,
        "purposes": [OFFLINE_STOP],
        "issuer": issuer,
    }
    # As a shell reads it, so that the issuer may be two words.
    click.echo(f"STEERHUB_OFFLINE_STOP_KEYS={shlex.quote(f'{issuer}={public}')}")
    click.echo(json.dumps(entry, ensure_ascii=False))
    click.echo(
        f"The first line is the hub's setting, comma-separated; the second an entry of each node's trust document. {output} is secret.",
        err=True,
    )


def check_issuer(issuer: str) -> None:
    if (
        not issuer.isprintable()
        or issuer != issuer.strip()
        or not 1 <= len(issuer) <= _MAX_ISSUER
        or set(issuer) & set("=,")
        or issuer == HUB
    ):
        raise click.BadParameter(
            f"must be 1 to {_MAX_ISSUER} printable characters without = and comma, and not {HUB!r}", param_hint="--issuer"
        )


def write_offline_stop(*, kind: str, target: str, environment: str, reason: str, key_file: Path, issuer: str, output: Path) -> None:
    """Signs a stop of one thing and writes it.

    Raises: NodeError STOP_KEY, FILE_UNWRITABLE; StopRefused KILL_TARGET, SCHEMA; SpellingError SPELLING.
    """
    check_issuer(issuer)
    with refused_as(StopRefused, "KILL_TARGET"):
        target, environment = name_target(kind, spell(target, "target"), spell(environment, "environment"))
    kill = StoppedKill(kind, environment, target, uuid.uuid4().hex)
    payload = write_stop(StopStatement(issuer, time.time_ns() // 1_000_000, datetime.now(UTC), (kill,), reason=reason))
    _write(output, sign_envelope(payload, PAYLOAD_TYPE, _read_key(key_file)))


def drop_stop(envelope: bytes, digest: str, store: Path) -> None:
    """Puts a stop where the node of this store finds it. Raises: NodeError STORE_MISSING, CACHE_UNWRITABLE."""
    inbox = store / INBOX
    # A node that has run has made the one, a node that has enrolled the other. In any other folder nobody looks.
    if not inbox.exists() and not (store / IDENTITY_FILE).exists():
        raise NodeError("STORE_MISSING", f"{store} is no node's store; give the folder that the node was started with", str(store))
    if not inbox.exists():
        with suppress(OSError):
            inbox.mkdir()
            # The node that it is for must be able to clear it, whoever is at the keyboard.
            os.chown(inbox, store.stat().st_uid, store.stat().st_gid)
    write_atomically(inbox / f"{digest}.dsse", envelope, mode=0o644)


def _read_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise NodeError("STOP_KEY", f"cannot read a private key in PEM from {path}: {error}", str(path)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise NodeError("STOP_KEY", f"{path} is not an Ed25519 private key; make one with: steer stop-key", str(path))
    return key


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise NodeError("FILE_UNWRITABLE", f"cannot write {path}: {error.strerror or error}", str(path)) from error
