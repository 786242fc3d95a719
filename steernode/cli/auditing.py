"""`steer audit export` and `steer verify`: take the log home, and check it there."""

from __future__ import annotations

from pathlib import Path

import click

from steernode.cli.context import hub_options, output_option, show_document
from steernode.hub.client import HubClient
from steernode.proof.verify import verify_export


@click.group()
def audit() -> None:
    """The audit log."""


@audit.command("export")
@click.option("--format", "export_format", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("--out", "target", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write.")
@hub_options
def export(hub: HubClient, export_format: str, target: Path) -> None:
    """Download the log. The file appears only once it is whole."""
    size = hub.download(f"/audit/export?format={export_format}", target)
    click.echo(f"{target}: {size} bytes; check it with: steer verify {target}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--head", "expected_head", help="The digest that the last event must have, noted down earlier or elsewhere.")
@output_option
def verify(file: Path, expected_head: str | None, as_json: bool) -> None:
    """Prove an audit export, offline. Exit status 1 and the first bad event if it was tampered with."""
    report = verify_export(file, expected_head=expected_head)
    if as_json:
        show_document({"verified": True, **report.to_document()}, as_json=True)
        return
    click.echo(
        f"verified: {report.events} events ({report.from_seq} to {report.to_seq}) of {report.objects} objects, every digest in order"
    )
    if not report.is_from_start:
        click.echo("note: the export does not begin at the first event, so what came before is not proved")
    click.echo(f"head: {report.head}")
