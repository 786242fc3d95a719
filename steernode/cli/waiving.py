"""`steer waiver`: two people answer for a gate on which nothing can be concluded."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from steernode.cli.context import Column, hub_options, output_option, read_results, show_document, show_rows
from steernode.hub.client import HubClient


@click.group()
def waiver() -> None:
    """Of one undecidable gate of one evaluation, never of one that failed. One approver asks, another confirms; neither made the vector."""


@waiver.command("list")
@click.option("--evidence-digest", help="Of this evidence only.")
@output_option
@hub_options
def list_waivers(hub: HubClient, evidence_digest: str | None, as_json: bool) -> None:
    """Every waiver, newest first, whatever became of it."""
    rows = read_results(hub.get(f"/waivers?size=500{f'&evidence_digest={quote(evidence_digest)}' if evidence_digest else ''}"))
    columns: list[Column] = [
        "id",
        "state",
        "metric",
        "kind",
        "threshold",
        "asked_by",
        "confirmed_by",
        "ends_at",
        "evidence_digest",
        "reason",
    ]
    show_rows(rows, columns, as_json=as_json)


@waiver.command("ask")
@click.argument("evaluation")
@click.argument("metric")
@click.option("--kind", help="Of the gate, where several are about the metric.")
@click.option("--threshold", help="Likewise.")
@click.option("--reason", required=True, help="Why the gate may stand undecided.")
@click.option("--days", type=int, required=True, help="Until it ends; what rests on it is then due for review.")
@output_option
@hub_options
def ask(
    hub: HubClient, evaluation: str, metric: str, kind: str | None, threshold: str | None, reason: str, days: int, as_json: bool
) -> None:
    """Ask that an undecidable gate of an EVALUATION, by its id, may stand. It counts once somebody else confirms it."""
    body: dict[str, Any] = {"metric": metric, "reason": reason, "days": days}
    body |= {name: value for name, value in (("kind", kind), ("threshold", threshold)) if value}
    show_document(hub.post(f"/evaluations/{quote(evaluation, safe='')}/waivers", body), as_json=as_json)


@waiver.command("confirm")
@click.argument("waiver_id", metavar="ID")
@output_option
@hub_options
def confirm(hub: HubClient, waiver_id: str, as_json: bool) -> None:
    """Confirm what another approver asked for."""
    show_document(hub.post(f"/waivers/{quote(waiver_id, safe='')}/confirm"), as_json=as_json)


@waiver.command("withdraw")
@click.argument("waiver_id", metavar="ID")
@click.option("--reason", required=True, help="Why.")
@output_option
@hub_options
def withdraw(hub: HubClient, waiver_id: str, reason: str, as_json: bool) -> None:
    """Take a waiver back: what was approved with it steers no more."""
    show_document(hub.post(f"/waivers/{quote(waiver_id, safe='')}/withdraw", {"reason": reason}), as_json=as_json)
