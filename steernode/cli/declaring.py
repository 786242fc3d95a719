"""`steer plan`, `apply`, `diff`, `export`, `drift` and `schema`: the record as files."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode

import click

from steernode.canonical import sha256_hex
from steernode.cli.context import hub_options, output_option, printable, show_document, show_table
from steernode.errors import HubError, ManifestError, SteerError
from steernode.hub.client import HubClient
from steernode.hub.connection import MAX_PLAN_BYTES
from steernode.hub.manifests import ManifestDocument, explain_refusal, read_manifests, upload_files, write_manifests

# Ten thousand objects, or the files of a large model, take longer than a question does.
PLAN_SECONDS, APPLY_SECONDS = 300.0, 1800.0
CHANGED = 2
_SIGNS = {"create": "+", "update": "~", "delete": "-", "retain": "·", "no-op": "="}
_SOURCE = click.option(
    "-f", "--file", "source", type=click.Path(exists=True, path_type=Path), required=True, help="A manifest, or a folder of them."
)


def plan_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what a plan is made with, and passes it as `options` in the words of the API."""

    @click.option("--prune", is_flag=True, help="Delete what the manifests' managers own and no longer declare.")
    @click.option("--max-prune-percent", type=click.IntRange(0, 100), default=10, show_default=True, help="Of a manager's objects.")
    @click.option("--force-conflicts", is_flag=True, help="Take over what another manager owns; the audit log says so.")
    @functools.wraps(function)
    def with_options(*args: Any, prune: bool, max_prune_percent: int, force_conflicts: bool, **kwargs: Any) -> Any:
        options = {"prune": prune, "maxPrunePercent": max_prune_percent, "forceConflicts": force_conflicts}
        return function(*args, options=options, **kwargs)

    return with_options


@click.command()
@_SOURCE
@plan_options
@output_option
@hub_options
@click.pass_context
def plan(ctx: click.Context, hub: HubClient, source: Path, options: dict[str, Any], as_json: bool) -> None:
    """Show what `apply` would do and what that means. Exit status 0: nothing, 2: changes, 1: an error."""
    manifests = _read_source(source)
    found = _ask_plan(ctx, hub, manifests, source, options)
    if as_json:
        show_document(found, as_json=True)
    else:
        _show_plan(found)
    ctx.exit(CHANGED if found["changes"] else 0)


@click.command()
@_SOURCE
@plan_options
@click.option("--plan", "planned", help="What `steer plan -o json` wrote, or its planDigest: apply that and nothing else.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@hub_options
@click.pass_context
def apply(ctx: click.Context, hub: HubClient, source: Path, options: dict[str, Any], planned: str | None, yes: bool) -> None:
    """Make the record say what manifests say: all of them or nothing. Safe to repeat."""
    manifests = _read_source(source)
    if planned is None:
        found = _ask_plan(ctx, hub, manifests, source, options)
        _show_plan(found)
        if not found["changes"]:
            return
        if not yes:
            click.confirm("Apply this plan?", abort=True)
        digest = str(found["planDigest"])
    else:
        digest, options = _read_plan(planned, options)
    body = {"documents": upload_files(manifests, source, hub.upload_blob), "planDigest": digest, **options}
    applied = _ask(ctx, manifests, lambda: hub.post("/manifests/apply", body, read_seconds=APPLY_SECONDS, max_bytes=MAX_PLAN_BYTES))
    click.echo(f"applied: {_count(applied['steps'])}")


@click.command()
@_SOURCE
@hub_options
@click.pass_context
def diff(ctx: click.Context, hub: HubClient, source: Path) -> None:
    """Show field by field how files and record differ. Exit status 0: not at all, 1: they differ, 2: an error."""
    try:
        manifests = _read_source(source)
        found = _ask_plan(ctx, hub, manifests, source, {"forceConflicts": True}, failure=CHANGED)
    except SteerError as error:
        _fail(ctx, [(error.code, error.message)], CHANGED)
    for step in found["steps"]:
        if step["action"] != "no-op":
            click.echo(f"--- on record: {step['kind']} {printable(step['name'])}\n+++ in files:  {step['kind']} {printable(step['name'])}")
            for change in step["changes"]:
                for sign, value in (("-", change["before"]), ("+", change["after"])):
                    if value is not None:
                        click.echo(f"{sign} {change['field']}: {_show_value(value)}")
    ctx.exit(1 if found["changes"] else 0)


@click.command()
@click.option("--kind", help="Only this kind.")
@click.option("--name", help="Only the object of this name.")
@click.option("--manager", help="Only what this manager owns.")
@click.option("--with-status", is_flag=True, help="With what the hub makes of each object.")
@hub_options
def export(hub: HubClient, kind: str | None, name: str | None, manager: str | None, with_status: bool) -> None:
    """Print the record as manifests. Applying them plans to nothing."""
    wanted = {"kind": kind, "name": name, "manager": manager, "status": "true" if with_status else None}
    query = urlencode({key: value for key, value in wanted.items() if value is not None})
    documents = hub.get(f"/manifests/export{'?' + query if query else ''}", read_seconds=PLAN_SECONDS, max_bytes=MAX_PLAN_BYTES)[
        "documents"
    ]
    click.echo(write_manifests(documents), nl=False)


@click.command()
@_SOURCE
@output_option
@hub_options
@click.pass_context
def drift(ctx: click.Context, hub: HubClient, source: Path, as_json: bool) -> None:
    """Compare files, registry, last snapshot and what nodes report. Exit status 0: all agree, 2: something drifts, 1: an error."""
    manifests = _read_source(source)
    body = {"documents": upload_files(manifests, source, sha256_hex)}
    rows = _ask(ctx, manifests, lambda: hub.post("/manifests/drift", body, read_seconds=PLAN_SECONDS, max_bytes=MAX_PLAN_BYTES))["rows"]
    if as_json:
        show_document({"rows": rows}, as_json=True)
    else:
        columns = ["kind", "name", "files", "registry", "snapshot", "nodes"]
        show_table(["", *columns], [["!" if row["drifts"] else "", *(row[column] for column in columns)] for row in rows])
    ctx.exit(CHANGED if any(row["drifts"] for row in rows) else 0)


@click.command()
@click.argument("kind", required=False)
@hub_options
def schema(hub: HubClient, kind: str | None) -> None:
    """Print the JSON Schema of manifests, or of one kind, for an editor."""
    show_document(hub.get(f"/manifests/schemas/{kind}" if kind else "/manifests/schema"), as_json=True)


# -- Asking and telling ---------------------------------------------------------------------------------------------------------


def _read_source(source: Path) -> list[ManifestDocument]:
    """What is left out of a folder is said where it disturbs no output that is read by programs."""
    return read_manifests(source, skipped=lambda sentence: click.echo(printable(sentence), err=True))


def _ask_plan(
    ctx: click.Context, hub: HubClient, manifests: list[ManifestDocument], source: Path, options: dict[str, Any], *, failure: int = 1
) -> dict[str, Any]:
    """Nothing is uploaded for a plan: the digests of the files say enough."""
    body = {"documents": upload_files(manifests, source, sha256_hex), **options}
    return _ask(
        ctx, manifests, lambda: hub.post("/manifests/plan", body, read_seconds=PLAN_SECONDS, max_bytes=MAX_PLAN_BYTES), failure=failure
    )


def _ask(ctx: click.Context, manifests: list[ManifestDocument], question: Callable[[], Any], *, failure: int = 1) -> dict[str, Any]:
    """The answer; or every fault that the hub found, each where it stands, and the end of the command."""
    try:
        answer = question()
    except HubError as error:
        _fail(ctx, explain_refusal(error, manifests), failure)
    if not isinstance(answer, dict):
        raise HubError("HUB_ANSWER", "the hub's answer is not an object; are hub and steer of the same version?")
    return answer


def _fail(ctx: click.Context, faults: Any, status: int) -> NoReturn:
    for code, message in faults:
        click.echo(f"error {code}: {printable(message)}", err=True)
    ctx.exit(status)


def _read_plan(planned: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A digest as it is given, with the options as they are given; a file with the options it was made with."""
    if len(planned) == 64 and not Path(planned).exists():
        return planned, options
    try:
        saved = json.loads(Path(planned).read_text("utf-8"))
        return str(saved["planDigest"]), {name: saved["options"][name] for name in options}
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{planned} is neither a planDigest nor a file that `steer plan -o json` wrote"
        raise ManifestError("PLAN_FILE", message, planned) from error


def _show_plan(found: dict[str, Any]) -> None:
    for step in found["steps"]:
        if step["action"] == "no-op" and not step["note"]:
            continue
        note = f"  ({step['note']})" if step["note"] else ""
        click.echo(printable(f"{_SIGNS[step['action']]} {step['kind']} {step['name']}{note}"))
        for line in _describe_step(step):
            click.echo(printable(f"    {line}"))
    for reach in found["environments"]:
        steered = f"; newly steered: {', '.join(reach['newlySteered'])}" if reach["newlySteered"] else ""
        nodes = f"{reach['nodes']} node{'' if reach['nodes'] == 1 else 's'} affected"
        click.echo(printable(f"{reach['environment']}: {nodes}, {reach['inStep']} in step now{steered}"))
    click.echo(f"plan {found['planDigest']}: {_count(found['steps'])}")


def _describe_step(step: dict[str, Any]) -> Iterator[str]:
    if step["action"] == "update":
        for change in step["changes"]:
            yield f"{change['field']}: {_show_value(change['before'])} → {_show_value(change['after'])}"
    for risk in step["risks"]:
        yield f"{'blocked: ' if risk['blocks'] else ''}{risk['message']}"


def _count(steps: list[dict[str, Any]]) -> str:
    words = {"create": "created", "update": "updated", "delete": "deleted", "retain": "retained", "no-op": "unchanged"}
    counts = [(sum(step["action"] == action for step in steps), word) for action, word in words.items()]
    return ", ".join(f"{count} {word}" for count, word in counts if count) or "nothing"


def _show_value(value: Any) -> str:
    return "nothing" if value is None else printable(json.dumps(value, ensure_ascii=False))
