"""`steer job`: units of worker time, listed, watched and called off."""

from __future__ import annotations

import time
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from steernode.cli.context import console, hub_options, output_option, printable, read_results, show_document, show_rows
from steernode.durations import say_time_left
from steernode.errors import HubError
from steernode.hub.client import HubClient

_FINISHED = ("succeeded", "failed", "cancelled")


@click.group()
def job() -> None:
    """Extractions and validations."""


@job.command("list")
@click.option("--state", type=click.Choice(["queued", "running", *_FINISHED]), help="Only jobs in this state.")
@output_option
@hub_options
def list_jobs(hub: HubClient, state: str | None, as_json: bool) -> None:
    """List jobs, newest first."""
    rows = read_results(hub.get(f"/jobs?state={state}" if state else "/jobs"))
    progress = ("progress", lambda row: f"{row.get('progress_done')}/{row.get('progress_total')}")
    show_rows(rows, ["id", "kind", "state", "stage", progress, ("left", _say_left), "profile", "note"], as_json=as_json)


@job.command("show")
@click.argument("job_id", type=click.UUID)
@output_option
@hub_options
def show_job(hub: HubClient, job_id: Any, as_json: bool) -> None:
    """Show one job; of a search in which no cell passes also what it measured, and what stops each cell."""
    document = hub.get(f"/jobs/{job_id}")
    search = None if as_json or not isinstance(document, dict) else document.pop("search", None)
    show_document(document, as_json=as_json)
    if isinstance(search, dict):
        _show_search(search)


def _show_search(search: dict[str, Any]) -> None:
    nearest, cells = search.get("nearest"), search.get("cells")
    said = nearest.get("sentence") if isinstance(nearest, dict) else search.get("problem")
    click.echo(f"search: {printable(str(said or 'nothing is kept of it'))}")
    if isinstance(cells, list):
        rows = [cell for cell in cells if isinstance(cell, dict)]
        show_rows(rows, ["layer", "alpha", "behaviour", "facts", "refusals", "perplexity_ratio", ("stopped by", _say_stops)], as_json=False)


def _say_stops(cell: dict[str, Any]) -> str:
    gates = [gate for gate in cell.get("gates") or [] if isinstance(gate, dict) and gate.get("verdict") != "pass"]
    return ", ".join(f"{gate.get('metric')} ({gate.get('value')})" for gate in gates)


@job.command("watch")
@click.argument("job_id", type=click.UUID)
@click.option("--interval", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Seconds between looks.")
@hub_options
def watch_job(hub: HubClient, job_id: Any, interval: float) -> None:
    """Follow a job to its end, and those that follow from it. Exit status 1 unless all succeed."""
    current: str | None = str(job_id)
    while current is not None:
        document = _watch_one(hub, current, interval)
        if document["state"] == "failed":
            raise HubError(str(document.get("error_code") or "JOB_FAILED"), str(document.get("error_message") or "the job failed"))
        if document["state"] == "cancelled":
            raise HubError("JOB_CANCELLED", f"job {current} was cancelled")
        click.echo(f"job {current} succeeded{_say_what_came_of(document)}")
        current = document.get("followed_by")


def _watch_one(hub: HubClient, job_id: str, interval: float) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console()) as progress:
        bar = progress.add_task("queued", total=None)
        while True:
            document = _read_job(hub.get(f"/jobs/{job_id}"))
            total = document["progress_total"] or None
            progress.update(bar, description=printable(describe_job(document)), completed=document["progress_done"], total=total)
            if document["state"] in _FINISHED:
                return document
            time.sleep(interval)


def describe_job(document: dict[str, Any]) -> str:
    """What stands beside the bar."""
    said = " ".join(str(document.get(name) or "") for name in ("kind", "state", "stage", "note")).strip()
    return ", ".join(each for each in (said, _say_left(document), _say_speed(document)) if each)


def _say_left(document: dict[str, Any]) -> str:
    """Nothing for a job that nobody works on."""
    seconds = document.get("seconds_left")
    return say_time_left(seconds if isinstance(seconds, int) else None) if document.get("state") == "running" else ""


def _say_speed(document: dict[str, Any]) -> str:
    speed = document.get("tokens_per_second")
    return f"{speed:.4g} tokens/s" if isinstance(speed, int | float) and speed and document.get("state") == "running" else ""


def _say_what_came_of(document: dict[str, Any]) -> str:
    """How a job of a chain goes on: as another job, as a draft, or not at all and why."""
    if document.get("followed_by"):
        return f", and goes on as job {document['followed_by']}"
    drafted = document.get("drafted_revision")
    if isinstance(drafted, dict):
        return f", and drafted {printable(str(drafted.get('profile')))}@{drafted.get('number')}"
    return f"; {printable(str(document.get('note')))}" if document.get("profile") else ""


@job.command("cancel")
@click.argument("job_id", type=click.UUID)
@output_option
@hub_options
def cancel_job(hub: HubClient, job_id: Any, as_json: bool) -> None:
    """Call a job off; one that runs stops when its worker notices."""
    document = _read_job(hub.post(f"/jobs/{job_id}/cancel"))
    if as_json:
        show_document(document, as_json=True)
        return
    click.echo(f"job {job_id} is {document['state']}" + ("" if document["state"] in _FINISHED else ", cancellation requested"))


def _read_job(document: Any) -> dict[str, Any]:
    wanted = {"state": str, "progress_done": int, "progress_total": int}
    if not isinstance(document, dict) or not all(isinstance(document.get(name), kind) for name, kind in wanted.items()):
        raise HubError("HUB_ANSWER", "the hub's answer is not a job; are hub and steer of the same version?")
    return document
