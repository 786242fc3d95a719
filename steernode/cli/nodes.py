"""`steer node`: run a serving node on this machine, or ask one how it is."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import click
import httpx

from steernode.canonical import parse_strict
from steernode.cli.context import read_token, show_document
from steernode.dsse import TrustedKeys
from steernode.errors import CanonicalError, HubError, NodeError
from steernode.hub.client import FleetClient
from steernode.node.follower import Follower
from steernode.node.responder import Responder
from steernode.node.runner import NodeRunner

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
