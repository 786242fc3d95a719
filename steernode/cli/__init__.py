"""The `steer` command: what an engineer, an approver, an operator, an auditor and a serving node's host type."""

from __future__ import annotations

import click

from steernode import __version__
from steernode.cli.auditing import audit, verify
from steernode.cli.basemodels import base_model, proposal
from steernode.cli.context import SteerGroup, hub_options, output_option, show_document
from steernode.cli.declaring import apply, diff, drift, export, plan, schema
from steernode.cli.flagging import explain, flag
from steernode.cli.governing import profile
from steernode.cli.inspecting import inspect
from steernode.cli.jobs import job
from steernode.cli.models import model
from steernode.cli.nodes import node
from steernode.cli.offline import stop_key
from steernode.cli.probes import probe
from steernode.cli.stopping import freeze, kill
from steernode.cli.tokens import token
from steernode.cli.waiving import waiver
from steernode.hub.client import HubClient


@click.group(cls=SteerGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Govern activation steering, which configures inference and changes no weight.

    Commands that ask the hub find it by --hub or STEERHUB_URL, and know you by --token-file, STEERHUB_TOKEN_FILE or STEERHUB_TOKEN.

    What a command shows, it prints as JSON with -o json.
    """


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(f"steer {__version__}")


@main.command()
@output_option
@hub_options
def whoami(hub: HubClient, as_json: bool) -> None:
    """Show who the hub takes you for."""
    show_document(hub.get("/whoami"), as_json=as_json)


COMMANDS = (
    *(inspect, audit, verify, job, node, base_model, model, proposal, probe),
    *(plan, apply, diff, export, drift, schema),
    *(profile, waiver, flag, explain, kill, stop_key, freeze, token),
)
for command in COMMANDS:
    main.add_command(command)
