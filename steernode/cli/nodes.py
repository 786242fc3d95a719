"""`steer node`: enrol and run a serving node on this machine, ask one how it is; and see, invite, rotate and withdraw nodes at the hub."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import httpx

from steernode.cli.context import (
    architectures_option,
    hub_options,
    output_option,
    printable,
    read_results,
    read_token,
    show_document,
    show_rows,
)
from steernode.cli.offline import drop_stop
from steernode.dsse import TrustedKeys, key_id
from steernode.errors import HubError, NodeError
from steernode.hub.client import HubClient
from steernode.node.door import LOOPBACK, check_host
from steernode.node.follower import Follower
from steernode.node.identity import TRUST_FILE, Identity, enroll_here, read_identity, read_trust, read_trusted
from steernode.node.responder import Responder
from steernode.node.runner import NodeRunner
from steernode.placement import AUTO, DTYPE_BYTES, parse_devices
from steernode.stop.document import MAX_ENVELOPE_BYTES
from steernode.stop.trust import believe_stop, read_stop

DEFAULT_PORT = 8300
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_STORE = click.option(
    "--store", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where the node keeps its key and what it accepted."
)
_TRUST = click.option(
    "--trust", "trust_file", type=_FILE, help="The trust document, brought by another road; or the hub's word is taken when enrolling."
)

_KEY_FILE = click.option(
    "--key-file", envvar="STEERHUB_NODE_KEY_FILE", type=_FILE, help="A file with the key that requests come with [STEERHUB_NODE_KEY_FILE]."
)


@click.group()
def node() -> None:
    """Serving nodes."""


@node.command("enroll")
@click.option("--hub", "hub_url", envvar="STEERHUB_URL", required=True, help="The hub's URL [STEERHUB_URL].")
@click.option("--name", required=True, help="The name this node was invited by.")
@click.option("--enrolment-token-file", type=click.Path(dir_okay=False, path_type=Path), help="A file with the one-time token.")
@click.option("--enrolment-token", envvar="STEERHUB_ENROLMENT_TOKEN", help="The one-time token; better in STEERHUB_ENROLMENT_TOKEN.")
@click.option("--keep-key", is_flag=True, help="Change the token only, and go on with the key pair that is here.")
@_STORE
@_TRUST
@output_option
def enroll_node(
    hub_url: str,
    name: str,
    enrolment_token_file: Path | None,
    enrolment_token: str | None,
    keep_key: bool,
    store: Path,
    trust_file: Path | None,
    as_json: bool,
) -> None:
    """Make this machine's key pair and enrol with it; also after a rotation. A node that runs takes it up when it is started again."""
    trust = read_trust(trust_file) if trust_file else None
    secret = read_token(enrolment_token, enrolment_token_file)
    identity = enroll_here(store, hub_url=hub_url, name=name, secret=secret, trust=trust, keep_key=keep_key)
    show_document(
        {
            "node": identity.name,
            "environment": identity.environment,
            "key": key_id(identity.key.public_key()),
            "trusts": [key["keyid"] for key in read_trust(store / TRUST_FILE)["keys"]],
        },
        as_json=as_json,
    )


@node.command("serve")
@click.option("--hub", "hub_url", envvar="STEERHUB_URL", default="", help="The hub's URL, if not the one it enrolled at [STEERHUB_URL].")
@click.option("--name", default="", help="For the first start: the name this node was invited by.")
@click.option("--enrolment-token-file", type=click.Path(dir_okay=False, path_type=Path), help="For the first start: enrol with this token.")
@click.option("--model", "model_folder", type=click.Path(path_type=Path), required=True, help="The base model's folder.")
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True)
@click.option("--host", envvar="STEERHUB_NODE_HOST", default=LOOPBACK, show_default=True, help="Where to listen [STEERHUB_NODE_HOST].")
@_KEY_FILE
@click.option(
    "--device", envvar="STEERHUB_NODE_DEVICE", default=AUTO, show_default=True, help="auto, cpu or cuda:N [STEERHUB_NODE_DEVICE]."
)
@click.option(
    "--dtype",
    envvar="STEERHUB_NODE_DTYPE",
    type=click.Choice([AUTO, *DTYPE_BYTES]),
    default=AUTO,
    show_default=True,
    help="auto is the model's own if that is bfloat16, else float32 [STEERHUB_NODE_DTYPE].",
)
@architectures_option
@_STORE
@_TRUST
def serve_node(
    hub_url: str,
    name: str,
    enrolment_token_file: Path | None,
    model_folder: Path,
    port: int,
    host: str,
    key_file: Path | None,
    device: str,
    dtype: str,
    store: Path,
    trust_file: Path | None,
) -> None:
    """Serve chat completions, steered as the hub's signed snapshots say. Needs: pip install 'steernode[serve]'."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # The client logs every request it makes; a node polls for ever.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    parse_devices(device)
    key = read_token(None, key_file) if key_file else None
    check_host(host, key)
    trust = read_trust(trust_file) if trust_file else None
    identity = read_identity(store) or _enroll_first(store, hub_url, name, enrolment_token_file, trust)
    keys = read_trusted(store, trust)
    try:
        # Imported here, because every other command works without torch and without a server.
        from steernode.integrations.transformers import TransformersEngine
        from steernode.node.serve import serve
    except ImportError as error:
        raise NodeError("NODE_EXTRAS", f"{error.name} is not installed; pip install 'steernode[serve]'", error.name) from error
    engine = TransformersEngine(model_folder, dtype=dtype, device=device)
    client = identity.connect(hub_url)
    follower = Follower(environment=identity.environment, name=identity.name, store=store, client=client, keys=keys, engine=engine)
    responder = Responder(follower, engine)
    follower.start()
    serve(responder, NodeRunner(follower, responder), model_name=model_folder.name, port=port, host=host, key=key)


def _enroll_first(store: Path, hub_url: str, name: str, token_file: Path | None, trust: dict[str, Any] | None) -> Identity:
    if not hub_url or not name or token_file is None:
        raise NodeError(
            "NOT_ENROLLED", f"no node has enrolled in {store}; say --hub, --name and --enrolment-token-file, or use steer node enroll"
        )
    secret, pause = read_token(None, token_file), 0.5
    while True:
        try:
            return enroll_here(store, hub_url=hub_url, name=name, secret=secret, trust=trust)
        except HubError as error:
            # Hub and node may be started together.
            if error.code not in ("HUB_UNREACHABLE", "UNAVAILABLE"):
                raise
            logging.getLogger("steernode.node").warning("waiting to enrol: %s: %s", error.code, error.message)
        time.sleep(pause)
        pause = min(2 * pause, 15.0)


@node.command("stop")
@click.option("--file", "stop_file", type=_FILE, required=True, help="A signed stop: of `steer kill --offline`, or the hub's own.")
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder that the node was given.")
@click.option("--trust", "trust_file", type=_FILE, help="Whom the node trusts; by default what its store says.")
def stop_node(stop_file: Path, store: Path, trust_file: Path | None) -> None:
    """Give a node a signed stop as a file, with no hub. A running node obeys within a second, another one when it starts."""
    envelope = _read_stop_file(stop_file)
    statement, digest = read_stop(envelope)
    # What the node would refuse a second later, where only its log says so, is refused here. Who may write into the inbox alone goes on.
    trusted = trust_file or store / TRUST_FILE
    if trust_file is not None or os.access(trusted, os.R_OK):
        believe_stop(envelope, keys=TrustedKeys.from_document(read_trust(trusted)), moments=())
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
@_KEY_FILE
@output_option
def node_status(url: str, key_file: Path | None, as_json: bool) -> None:
    """Ask a node what is in force there."""
    headers = {"Authorization": f"Bearer {read_token(None, key_file)}"} if key_file else {}
    try:
        document: Any = httpx.get(f"{url.rstrip('/')}/status", headers=headers, timeout=5).json()
    except (httpx.HTTPError, httpx.InvalidURL, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise HubError("NODE_UNREACHABLE", f"no node answers at {url}: {error or type(error).__name__}", url) from error
    show_document(document, as_json=as_json)


@node.command("list")
@click.option("--environment", default="", help="Only those of one environment.")
@output_option
@hub_options
def list_nodes(hub: HubClient, environment: str, as_json: bool) -> None:
    """Every node of the hub and where it stands; also those that are withdrawn."""
    only = f"&environment={quote(environment, safe='')}" if environment else ""
    rows = read_results(hub.get(f"/nodes?size=500{only}"))
    columns = [
        "name",
        "environment",
        "convergence",
        "applied_revision",
        "head_revision",
        "last_code",
        "cannot_serve",
        "engine",
        "last_seen_at",
    ]
    show_rows(rows, columns, as_json=as_json)


@node.command("show")
@click.argument("name")
@output_option
@hub_options
def show_node(hub: HubClient, name: str, as_json: bool) -> None:
    """What the hub knows of one node."""
    show_document(hub.get(f"/nodes/{quote(name, safe='')}"), as_json=as_json)


@node.command("invite")
@click.argument("name")
@click.option("--environment", required=True)
@output_option
@hub_options
def invite_node(hub: HubClient, name: str, environment: str, as_json: bool) -> None:
    """A one-time token for a new node to enrol with, shown this once."""
    show_document(hub.post("/nodes", {"name": name, "environment": environment}), as_json=as_json)


@node.command("rotate")
@click.argument("name")
@output_option
@hub_options
def rotate_node(hub: HubClient, name: str, as_json: bool) -> None:
    """A one-time token for another token and key; those it has count until the node enrols with it."""
    show_document(hub.post(f"/nodes/{quote(name, safe='')}/rotate"), as_json=as_json)


@node.command("withdraw")
@click.argument("name")
@click.option("--reason", required=True)
@output_option
@hub_options
def withdraw_node(hub: HubClient, name: str, reason: str, as_json: bool) -> None:
    """Give a node nothing more, at once. It stays listed, and no longer counts."""
    show_document(hub.post(f"/nodes/{quote(name, safe='')}/withdraw", {"reason": reason}), as_json=as_json)


@node.command("re-enroll")
@click.argument("name")
@output_option
@hub_options
def reenroll_node(hub: HubClient, name: str, as_json: bool) -> None:
    """A one-time token for a withdrawn node to come back with."""
    show_document(hub.post(f"/nodes/{quote(name, safe='')}/re-enroll"), as_json=as_json)
