"""`steer kill` and `steer freeze`: stop steering now, and keep it from being raised for a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from steernode.cli.context import Column, hub_options, output_option, read_results, show_document, show_rows
from steernode.cli.offline import write_offline_stop
from steernode.errors import NodeError
from steernode.hub.client import HubClient
from steernode.words import KILL_KINDS


@click.group(invoke_without_command=True)
@click.option("--kind", type=click.Choice(KILL_KINDS))
@click.option("--target", default="", help="The profile, tenant or environment; nothing for everything.")
@click.option("--environment", default="", help="Only here, for a profile or a tenant; or the target of an environment kill.")
@click.option("--reason", help="Why; of a stop that is written offline it is in the file, and on record once the hub has it.")
@click.option("--offline", is_flag=True, help="Ask no hub: write a signed stop, for `steer node stop` on each node's machine.")
@click.option("--key", "key_file", type=click.Path(dir_okay=False, path_type=Path), help="Of `steer stop-key`; with --offline.")
@click.option("--issuer", help="Whose key that is; with --offline.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where the stop is written; with --offline.")
@hub_options
@click.pass_context
def kill(
    context: click.Context,
    hub: HubClient,
    kind: str | None,
    target: str,
    environment: str,
    reason: str | None,
    offline: bool,
    key_file: Path | None,
    issuer: str | None,
    output: Path | None,
) -> None:
    """Return to α = 0 at once. Needs no approval and waits for no freeze."""
    if context.invoked_subcommand is not None:
        return
    if kind is None or reason is None:
        raise click.UsageError("say --kind and --reason; or list, lift or withdraw-lift")
    if kind != "everything" and not target and not (kind == "environment" and environment):
        raise click.UsageError(f"--kind {kind} needs --target")
    if offline:
        if key_file is None or issuer is None or output is None:
            raise click.UsageError("--offline needs --key, --issuer and --output")
        write_offline_stop(
            kind=kind, target=target, environment=environment, reason=reason, key_file=key_file, issuer=issuer, output=output
        )
        click.echo(f"On the machine of each node: steer node stop --file {output} --store FOLDER", err=True)
        return
    if key_file is not None or issuer is not None or output is not None:
        raise click.UsageError("--key, --issuer and --output are for --offline")
    show_document(hub.post("/kills", {"kind": kind, "target": target, "environment": environment, "reason": reason}))


@kill.command("list")
@click.option("--all", "lifted_too", is_flag=True, help="Those that were lifted, too.")
@output_option
@hub_options
def list_kills(hub: HubClient, lifted_too: bool, as_json: bool) -> None:
    """The kills in force."""
    rows = read_results(hub.get(f"/kills?size=500{'' if lifted_too else '&is_engaged=true'}"))
    columns: list[Column] = [
        "id",
        "kind",
        "target",
        "environment",
        "engaged_by",
        "engaged_at",
        ("obeyed_by", _tell_obeyed),
        "lift_requested_by",
        "lift_expires_at",
        "lift_reason",
        "lifted_by",
        "reason",
    ]
    show_rows(rows, columns, as_json=as_json)


def _tell_obeyed(row: dict[str, Any]) -> str:
    """What became of the kill in words, such as `2 of 3 nodes; waiting: node-3; silent: node-3`."""
    found = row.get("obeyed_by")
    if not found:
        return ""
    some = [f"{word}: {', '.join(found[word])}" for word in ("waiting", "silent", "withdrawn") if found[word]]
    return "; ".join([f"{found['nodes']} of {found['of']} nodes", *some])


@kill.command("lift")
@click.argument("kill_id")
@click.option("--reason", help="Why steering may be on again; for the first of the two people.")
@output_option
@hub_options
def lift_kill(hub: HubClient, kill_id: str, reason: str | None, as_json: bool) -> None:
    """Ask for the lift of a kill, with a reason, or confirm what somebody else asked for. It takes two people, within a day."""
    here = f"/kills/{quote(kill_id, safe='')}"
    found: Any = hub.get(here)
    if isinstance(found, dict) and found.get("lift_standing") == "pending":
        show_document(hub.post(f"{here}/confirm-lift"), as_json=as_json)
        return
    if reason is None:
        if isinstance(found, dict) and found.get("lift_standing") == "lifted":
            raise NodeError("KILL_NOT_FOUND", f"this kill is lifted already, confirmed by {found.get('lifted_by')}", kill_id)
        raise click.UsageError("nobody asks for this lift now; ask with --reason")
    show_document(hub.post(f"{here}/request-lift", {"reason": reason}), as_json=as_json)
    click.echo(f"Somebody else confirms with: steer kill lift {kill_id}", err=True)


@kill.command("withdraw-lift")
@click.argument("kill_id")
@click.option("--reason", default="")
@output_option
@hub_options
def withdraw_lift(hub: HubClient, kill_id: str, reason: str, as_json: bool) -> None:
    """Take the request for a lift back, your own or another's. The kill stays in force."""
    show_document(hub.post(f"/kills/{quote(kill_id, safe='')}/withdraw-lift", {"reason": reason}), as_json=as_json)


@click.group()
def freeze() -> None:
    """Windows in which nothing may raise steering. Kills and turning off always may."""


@freeze.command("declare")
@click.option("--environment", required=True)
@click.option("--from", "starts_at", metavar="TIME", help="Such as 2026-12-24T18:00:00Z; now unless given.")
@click.option("--until", "ends_at", metavar="TIME", required=True)
@click.option("--reason", required=True)
@output_option
@hub_options
def declare_freeze(hub: HubClient, environment: str, starts_at: str | None, ends_at: str, reason: str, as_json: bool) -> None:
    """Refuse everything that raises steering in an environment, for a time."""
    body = {"ends_at": ends_at, "reason": reason, **({"starts_at": starts_at} if starts_at else {})}
    show_document(hub.post(f"/environments/{quote(environment, safe='')}/freezes", body), as_json=as_json)


@freeze.command("list")
@click.option("--environment", required=True)
@output_option
@hub_options
def list_freezes(hub: HubClient, environment: str, as_json: bool) -> None:
    """The windows of an environment, newest first."""
    rows = read_results(hub.get(f"/environments/{quote(environment, safe='')}/freezes"))
    columns = ["id", "state", "starts_at", "ends_at", "declared_by", "reason", "ended_by", "ended_reason"]
    show_rows(rows, columns, as_json=as_json)


@freeze.command("end")
@click.argument("freeze_id")
@click.option("--reason", required=True)
@output_option
@hub_options
def end_freeze(hub: HubClient, freeze_id: str, reason: str, as_json: bool) -> None:
    """End a window before its time."""
    show_document(hub.post(f"/freezes/{quote(freeze_id, safe='')}/end", {"reason": reason}), as_json=as_json)
