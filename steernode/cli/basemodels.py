"""`steer base-model` and `steer proposal`: which files each environment serves, and what a move asks to be made again."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from steernode.cli.confirming import ask_first, confirm_options
from steernode.cli.context import hub_options, output_option, printable, read_results, show_document, show_rows
from steernode.hub.client import HubClient


@click.group("base-model")
def base_model() -> None:
    """Fingerprints of base models, and the environments that serve them."""


@base_model.command("list")
@output_option
@hub_options
def list_base_models(hub: HubClient, as_json: bool) -> None:
    """List base models with their fingerprints and where each is served."""
    rows = read_results(hub.get("/base-models"))
    served, registered = ("served in", lambda row: row.get("environments")), ("registered", lambda row: row.get("registered_at"))
    show_rows(rows, ["name", "fingerprint", served, registered], as_json=as_json)


@base_model.command("move")
@click.argument("reference", metavar="NAME[@FINGERPRINT]")
@click.option("--environment", required=True)
@click.option("--reason", required=True)
@confirm_options
@output_option
@hub_options
def move(hub: HubClient, reference: str, environment: str, reason: str, yes: bool, confirmed: str | None, as_json: bool) -> None:
    """Have an environment serve another fingerprint, or the first of a name. What depends on the one before stops steering, and does
    not come back by itself; all of that is shown first, and asked about."""
    path = f"/environments/{quote(environment, safe='')}/move"
    body = ask_first(hub, path, {"base_model": reference, "reason": reason}, yes=yes, confirmed=confirmed)
    answer: dict[str, Any] = hub.post(path, body)
    if as_json:
        show_document(answer, as_json=True)
        return
    served = answer["base_model"]
    click.echo(f"{environment} serves {printable(served['name'])} {served['fingerprint']}")
    for noun in ("changes", "flags_off", "invalidated", "proposals"):
        for item in answer[noun]:
            click.echo(f"{noun.replace('_', ' ')}: {printable(str(item))}")


@click.group()
def proposal() -> None:
    """Vectors that a move left behind, to be extracted again."""


@proposal.command("list")
@output_option
@hub_options
def list_proposals(hub: HubClient, as_json: bool) -> None:
    """List what nobody has accepted or declined yet."""
    rows = read_results(hub.get("/proposals?state=proposed"))
    vector = ("vector", lambda row: f"{row['vector']['name']}@{row['vector']['version']}")
    model = ("for", lambda row: f"{row['base_model']['name']} {row['base_model']['fingerprint'][:12]}")
    show_rows(rows, ["id", vector, model, "profile"], as_json=as_json)


@proposal.command("accept")
@click.argument("proposal_id", type=click.UUID)
@output_option
@hub_options
def accept(hub: HubClient, proposal_id: Any, as_json: bool) -> None:
    """Queue the extraction. Accepting again gives the job that is there."""
    answer = hub.post(f"/proposals/{proposal_id}/accept")
    if as_json:
        show_document(answer, as_json=True)
    else:
        click.echo(f"job {answer['job']}")


@proposal.command("decline")
@click.argument("proposal_id", type=click.UUID)
@click.option("--reason", required=True, help="Why not. It goes on record.")
@output_option
@hub_options
def decline(hub: HubClient, proposal_id: Any, reason: str, as_json: bool) -> None:
    """Take it off the list. It can still be accepted."""
    answer = hub.post(f"/proposals/{proposal_id}/decline", {"reason": reason})
    if as_json:
        show_document(answer, as_json=True)
    else:
        click.echo(answer["state"])
