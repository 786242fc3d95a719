"""`steer profile`, `flag` and `kill`: the changes people make to the governed record."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from steerkit.canonical import format_decimal, parse_alpha
from steerkit.cli.context import hub_options, parse_reference, show_document
from steerkit.client import HubClient
from steerkit.errors import HubError

_KILL_KINDS = ["profile", "tenant", "environment", "everything"]


@click.group()
def profile() -> None:
    """Revisions of profiles, written NAME@NUMBER."""


@profile.command("submit")
@click.argument("reference", type=parse_reference, metavar="NAME@NUMBER")
@hub_options
def submit(hub: HubClient, reference: tuple[str, int]) -> None:
    """Hand a revision in for approval."""
    show_document(hub.post(f"{_revision_path(reference)}/submit"))


@profile.command("approve")
@click.argument("reference", type=parse_reference, metavar="NAME@NUMBER")
@click.option("--comment", default="", help="Why.")
@click.option("--revision-digest", help="The revision you looked at; refused if it is another by now.")
@click.option("--evidence-digest", help="The evidence you looked at.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@hub_options
def approve(
    hub: HubClient, reference: tuple[str, int], comment: str, revision_digest: str | None, evidence_digest: str | None, yes: bool
) -> None:
    """Approve exactly the revision and evidence shown. Authors cannot approve their own."""
    if revision_digest is None or evidence_digest is None:
        revision = hub.get(_revision_path(reference))
        revision_digest = revision_digest or _read_digest(revision, "digest")
        evidence_digest = evidence_digest or _read_digest(revision, "evidence_digest")
    click.echo(f"revision {reference[0]}@{reference[1]}: {revision_digest}\nevidence: {evidence_digest}")
    if not yes:
        click.confirm("Approve this revision on this evidence?", abort=True)
    body = {"revision_digest": revision_digest, "evidence_digest": evidence_digest, "comment": comment}
    show_document(hub.post(f"{_revision_path(reference)}/approve", body))


@profile.command("reject")
@click.argument("reference", type=parse_reference, metavar="NAME@NUMBER")
@click.option("--comment", required=True, help="Why.")
@hub_options
def reject(hub: HubClient, reference: tuple[str, int], comment: str) -> None:
    """Reject a revision; its author may write another."""
    show_document(hub.post(f"{_revision_path(reference)}/reject", {"comment": comment}))


@profile.command("request-changes")
@click.argument("reference", type=parse_reference, metavar="NAME@NUMBER")
@click.option("--comment", required=True, help="What to change.")
@hub_options
def request_changes(hub: HubClient, reference: tuple[str, int], comment: str) -> None:
    """Send a submitted revision back to its author, who changes it and submits it again."""
    show_document(hub.post(f"{_revision_path(reference)}/request-changes", {"comment": comment}))


@profile.command("comment")
@click.argument("reference", type=parse_reference, metavar="NAME@NUMBER")
@click.argument("text")
@hub_options
def comment(hub: HubClient, reference: tuple[str, int], text: str) -> None:
    """Say something about a revision without deciding."""
    show_document(hub.post(f"{_revision_path(reference)}/comments", {"text": text}))


@profile.command("checklist")
@click.argument("reference", type=parse_reference, metavar="NAME@NUMBER")
@hub_options
def checklist(hub: HubClient, reference: tuple[str, int]) -> None:
    """What the risk policy demands of a revision. Exits with 1 while something is not met."""
    answer = hub.get(f"{_revision_path(reference)}/checklist")
    show_document(answer)
    if not isinstance(answer, dict) or not all(row["is_met"] for row in answer["requirements"]):
        raise click.exceptions.Exit(1)


@click.group()
def flag() -> None:
    """Which tenant gets which profile."""


@flag.command("set")
@click.option("--environment", required=True)
@click.option("--tenant", required=True)
@click.option("--route", default="", help="Only this route; without it, every route that has no flag of its own.")
@click.option("--profile", "reference", type=parse_reference, metavar="NAME@NUMBER", help="Needed with --on.")
@click.option("--on/--off", "enabled", default=None)
@click.option("--alpha-scale", default="1", show_default=True, help="Weakens what was approved: 0.5 is half.")
@click.option("--reason", required=True)
@hub_options
def set_flag(
    hub: HubClient,
    environment: str,
    tenant: str,
    route: str,
    reference: tuple[str, int] | None,
    enabled: bool | None,
    alpha_scale: str,
    reason: str,
) -> None:
    """Turn steering on or off for a tenant. Off needs one person, on needs an approved revision."""
    if enabled is None:
        raise click.UsageError("say --on or --off")
    if enabled and reference is None:
        raise click.UsageError("--on needs --profile NAME@NUMBER")
    body: dict[str, Any] = {"route": route, "enabled": enabled, "alpha_scale": format_decimal(parse_alpha(alpha_scale)), "reason": reason}
    if reference is not None:
        body |= {"profile": reference[0], "revision": reference[1]}
    show_document(hub.put(f"/environments/{quote(environment, safe='')}/flags/{quote(tenant, safe='')}", body))


@click.command()
@click.option("--kind", type=click.Choice(_KILL_KINDS), required=True)
@click.option("--target", default="", help="The profile, tenant or environment; nothing for everything.")
@click.option("--environment", default="", help="Another way to name an environment kill's target.")
@click.option("--reason", required=True)
@hub_options
def kill(hub: HubClient, kind: str, target: str, environment: str, reason: str) -> None:
    """Return to α = 0 at once. Needs no approval and waits for no freeze."""
    if kind != "everything" and not target and not (kind == "environment" and environment):
        raise click.UsageError(f"--kind {kind} needs --target")
    show_document(hub.post("/kills", {"kind": kind, "target": target, "environment": environment, "reason": reason}))


def _revision_path(reference: tuple[str, int]) -> str:
    return f"/profiles/{quote(reference[0], safe='')}/revisions/{reference[1]}"


def _read_digest(revision: Any, field: str) -> str:
    value = revision.get(field) if isinstance(revision, dict) else None
    if not isinstance(value, str) or not value:
        raise HubError("HUB_ANSWER", f"the revision has no {field}; nothing can be approved without it", field)
    return value
