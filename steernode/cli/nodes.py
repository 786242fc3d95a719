"""`steer node`: run a serving node on this machine, or ask one how it is."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import click
import httpx

from steernode.canonical import parse_strict
from steernode.cli.context import printable, read_token, show_document
from steernode.cli.offline import drop_stop
from steernode.dsse import TrustedKeys
from steernode.errors import CanonicalError, HubError, NodeError
from steernode.hub.client import FleetClient
from steernode.node.follower import Follower
from steernode.node.responder import Responder
from steernode.node.runner import NodeRunner
from steernode.stop.document import MAX_ENVELOPE_BYTES
from steernode.stop.trust import believe_stop, read_stop

DEFAULT_PORT = 8300
_MAX_TRUST_BYTES = 256 * 1024
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def node() -> None:
    """Serving nodes."""


@node.command("serve")
@click.option("--hub", "hub_url", envvar="STEERHUB_URL", required=True, help="The hub's URL [STEERHUB_URL].")
@click.option("--environment", required=True, help="Which snapshots to pull.")
@click.option("--name", required=True, help="The name this node was enrolled by.")
@click.option("--token-file", type=_FILE, required=True, help="The token it was given then.")
@click.option("--trust", "trust_file", type=_FILE, required=True, help="The trust document: the keys snapshots must be signed by.")
@click.option("--model", "model_folder", type=click.Path(path_type=Path), required=True, help="The base model's folder.")
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where the node keeps what it accepted.")
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="On 127.0.0.1.")
def serve_node(
    hub_url: str, environment: str, name: str, token_file: Path, trust_file: Path, model_folder: Path, store: Path, port: int
) -> None:
    """Serve chat completions, steered as the hub's signed snapshots say. Needs: pip install 'steernode[serve]'."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # The client logs every request it makes; a node polls for ever.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    keys = read_trust(trust_file)
    client = FleetClient(hub_url, environment, name, read_token(None, token_file))
    try:
        # Imported here, because every other command works without torch and without a server.
        from steernode.integrations.transformers import TransformersEngine
        from steernode.node.serve import serve
    except ImportError as error:
        raise NodeError("NODE_EXTRAS", f"{error.name} is not installed; pip install 'steernode[serve]'", error.name) from error
    engine = TransformersEngine(model_folder)
    follower = Follower(environment=environment, name=name, store=store, client=client, keys=keys, engine=engine)
    responder = Responder(follower, engine)
    follower.start()
    serve(responder, NodeRunner(follower, responder), model_name=model_folder.name, port=port)


@node.command("stop")
@click.option("--file", "stop_file", type=_FILE, required=True, help="A signed stop: of `steer kill --offline`, or the hub's own.")
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder that the node was given.")
@click.option("--trust", "trust_file", type=_FILE, help="The node's trust document, to check the signature here too, before the node does.")
def stop_node(stop_file: Path, store: Path, trust_file: Path | None) -> None:
    """Give a node a signed stop as a file, with no hub. A running node obeys within a second, another one when it starts."""
    envelope = _read_stop_file(stop_file)
    statement, digest = read_stop(envelope)
    if trust_file is not None:
        believe_stop(envelope, keys=read_trust(trust_file), moments=())
    drop_stop(envelope, digest, store)
    kills = ", ".join(f"{kill.kind} {kill.target}" for kill in statement.kills[:10])
    click.echo(f"stop {digest[:12]} of {printable(statement.issuer)}: {printable(kills)}")


def _read_stop_file(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_ENVELOPE_BYTES + 1)
    except OSError as error:
        raise NodeError("FILE_UNREADABLE", f"cannot read {path}: {error.strerror or error}", str(path)) from error


@node.command("status")
@click.option("--url", default=f"http://127.0.0.1:{DEFAULT_PORT}", show_default=True, help="The node's own endpoint.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def node_status(url: str, as_json: bool) -> None:
    """Ask a node what is in force there."""
    try:
        document: Any = httpx.get(f"{url.rstrip('/')}/status", timeout=5).json()
    except (httpx.HTTPError, httpx.InvalidURL, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise HubError("NODE_UNREACHABLE", f"no node answers at {url}: {error or type(error).__name__}", url) from error
    show_document(document, as_json=as_json)


def read_trust(path: Path) -> TrustedKeys:
    """Raises: NodeError TRUST_FILE, SnapshotRefused SCHEMA naming the field."""
    try:
        document = parse_strict(path.read_bytes(), max_bytes=_MAX_TRUST_BYTES)
    except OSError as error:
        raise NodeError("TRUST_FILE", f"cannot read {path}: {error.strerror or error}", str(path)) from error
    except CanonicalError as error:
        raise NodeError("TRUST_FILE", f"{path}: {error.message}", str(path)) from error
    return TrustedKeys.from_document(document)
