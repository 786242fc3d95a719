"""`steer probe`: probes on record, and asking for one."""

from __future__ import annotations

from typing import Any

import click

from steernode.cli.context import hub_options, output_option, read_results, show_document, show_rows
from steernode.hub.client import HubClient


@click.group()
def probe() -> None:
    """Probes: which prompts a profile steers."""


@probe.command("list")
@output_option
@hub_options
def list_probes(hub: HubClient, as_json: bool) -> None:
    """List probes with what their test split says."""
    rows = read_results(hub.get("/probes"))
    auc = ("auc", lambda row: _say_interval(row, "auc"))
    hits = ("fires", lambda row: _say_interval(row, "true_positive_rate"))
    false = ("wrongly", lambda row: _say_interval(row, "false_positive_rate"))
    show_rows(rows, ["name", "version", "intent", "layer", auc, hits, false, "prompt_set"], as_json=as_json)


@probe.command("show")
@click.argument("reference", metavar="NAME@VERSION")
@output_option
@hub_options
def show_probe(hub: HubClient, reference: str, as_json: bool) -> None:
    """Show one probe."""
    name, _, version = reference.partition("@")
    show_document(hub.get(f"/probes/{name}/{version or 1}"), as_json=as_json)


@probe.command("train")
@click.argument("name")
@click.option("--base-model", required=True, help="Name or id.")
@click.option("--prompts", required=True, help="The prompt set, NAME@VERSION.")
@click.option("--intent", default="", help="Which intent it is to find; none where the labels are true and false.")
@click.option("--below", type=int, help="The first layer that will be steered.")
@click.option("--layer", "layers", type=int, multiple=True, help="A layer to read at; may be repeated.")
@click.option("--false-positive-rate", "rate", help="What the threshold keeps to, such as 0.05.")
@click.option("--again", is_flag=True, help="Though the same failed before.")
@output_option
@hub_options
def train_probe(
    hub: HubClient,
    name: str,
    base_model: str,
    prompts: str,
    intent: str,
    below: int | None,
    layers: tuple[int, ...],
    rate: str | None,
    again: bool,
    as_json: bool,
) -> None:
    """Ask for a job that trains a probe; `steer job watch` follows it."""
    stated: dict[str, Any] = {"below": below, "layers": list(layers) or None, "target_false_positive_rate": rate}
    recipe = {"probe": name, "intent": intent, **{field: value for field, value in stated.items() if value is not None}}
    body = {"kind": "probe", "base_model": base_model, "prompt_set": prompts, "recipe": recipe, "again": again}
    show_document(hub.post("/jobs", body), as_json=as_json)


def _say_interval(row: Any, name: str) -> str:
    measured = row.get("held_out", {}).get(name)
    return f"{measured['value']} [{measured['low']}, {measured['high']}]" if isinstance(measured, dict) else ""
