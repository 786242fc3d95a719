"""`steer token`: one's own API tokens."""

from __future__ import annotations

from typing import Any

import click

from steernode.cli.context import hub_options, output_option, read_results, show_document, show_rows
from steernode.hub.client import HubClient


@click.group()
def token() -> None:
    """Your own API tokens."""


@token.command("list")
@output_option
@hub_options
def list_tokens(hub: HubClient, as_json: bool) -> None:
    """Show your tokens: what each is for, and when it was last used."""
    columns = ["id", "prefix", "name", "scopes", "tenant", "expires_at", "last_used_at", "revoked_at"]
    rows = read_results(hub.get("/tokens?size=500"))
    show_rows(rows, columns, as_json=as_json)


@token.command("issue")
@click.argument("name")
@click.option("--days", type=click.IntRange(1, 366), default=90, show_default=True, help="How long it works.")
@click.option("--scope", "scopes", multiple=True, help="A role of yours, or `read`; once for each. Left out: whatever you may do.")
@click.option("--tenant", help="Only for this tenant.")
@output_option
@hub_options
def issue_token(hub: HubClient, name: str, days: int, scopes: tuple[str, ...], tenant: str | None, as_json: bool) -> None:
    """Make a token called NAME. Its secret is printed this once, alone on standard output, to be piped where it belongs."""
    body: dict[str, Any] = {"name": name, "days": days}
    if scopes:
        body["scopes"] = list(scopes)
    if tenant:
        body["tenant"] = tenant
    issued = hub.post("/tokens", body)
    if as_json:
        show_document(issued, as_json=True)
        return
    click.echo(f"token {issued['prefix']}…, id {issued['id']}, until {issued['expires_at']}", err=True)
    click.echo(issued["token"])


@token.command("revoke")
@click.argument("token_id", type=click.UUID)
@output_option
@hub_options
def revoke_token(hub: HubClient, token_id: Any, as_json: bool) -> None:
    """Take a token away; it stops working with the next request."""
    hub.delete(f"/tokens/{token_id}")
    show_document({"revoked": str(token_id)}, as_json=as_json)
