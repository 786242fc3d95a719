"""`steer profile`: what people decide about revisions."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from steernode.cli.context import hub_options, output_option, parse_reference, printable, show_document
from steernode.errors import HubError
from steernode.hub.client import HubClient


@click.group()
def profile() -> None:
    """Revisions of profiles, written NAME@NUMBER."""


@profile.command("submit")
@click.argument("reference", type=parse_reference, metavar="NAME@NUMBER")
@output_option
@hub_options
def submit(hub: HubClient, reference: tuple[str, int], as_json: bool) -> None:
    """Hand a revision in for approval."""
    show_document(hub.post(f"{_revision_path(reference)}/submit"), as_json=as_json)


@profile.command("approve")
@click.argument("reference", type=parse_reference, metavar="NAME@NUMBER")
@click.option("--comment", default="", help="Why.")
@click.option("--revision-digest", help="The revision you looked at; refused if it is another by now.")
@click.option("--evidence-digest", help="The evidence you looked at.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
@hub_options
def approve(
    hub: HubClient,
    reference: tuple[str, int],
    comment: str,
    revision_digest: str | None,
    evidence_digest: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Approve exactly the revision and evidence shown. Authors cannot approve their own."""
    revision = hub.get(_revision_path(reference))
    if revision_digest is None or evidence_digest is None:
        revision_digest = revision_digest or _read_digest(revision, "digest")
        evidence_digest = evidence_digest or _read_digest(revision, "evidence_digest")
    click.echo(f"revision {reference[0]}@{reference[1]}: {revision_digest}\nevidence: {evidence_digest}", err=as_json)
    looks = _describe_looks(hub.get(f"{_revision_path(reference)}/checklist"))
    for line in [*_describe_covers(revision), *_describe_waivers(revision), *looks]:
        click.echo(printable(line), err=as_json)
    if not yes:
        click.confirm("Approve this revision on this evidence?", abort=True, err=as_json)
    body = {"revision_digest": revision_digest, "evidence_digest": evidence_digest, "comment": comment}
    show_document(hub.post(f"{_revision_path(reference)}/approve", body), as_json=as_json)


@profile.command("reject")
@click.argument("reference", type=parse_reference, metavar="NAME@NUMBER")
@click.option("--comment", required=True, help="Why.")
@output_option
@hub_options
def reject(hub: HubClient, reference: tuple[str, int], comment: str, as_json: bool) -> None:
    """Reject a revision; its author may write another."""
    show_document(hub.post(f"{_revision_path(reference)}/reject", {"comment": comment}), as_json=as_json)


@profile.command("request-changes")
@click.argument("reference", type=parse_reference, metavar="NAME@NUMBER")
@click.option("--comment", required=True, help="What to change.")
@output_option
@hub_options
def request_changes(hub: HubClient, reference: tuple[str, int], comment: str, as_json: bool) -> None:
    """Send a submitted revision back to its author, who changes it and submits it again."""
    show_document(hub.post(f"{_revision_path(reference)}/request-changes", {"comment": comment}), as_json=as_json)


@profile.command("comment")
@click.argument("reference", type=parse_reference, metavar="NAME@NUMBER")
@click.argument("text")
@output_option
@hub_options
def comment(hub: HubClient, reference: tuple[str, int], text: str, as_json: bool) -> None:
    """Say something about a revision without deciding."""
    show_document(hub.post(f"{_revision_path(reference)}/comments", {"text": text}), as_json=as_json)


@profile.command("checklist")
@click.argument("reference", type=parse_reference, metavar="NAME@NUMBER")
@output_option
@hub_options
def checklist(hub: HubClient, reference: tuple[str, int], as_json: bool) -> None:
    """What the risk policy demands of a revision. Exits with 1 while something is not met."""
    answer = hub.get(f"{_revision_path(reference)}/checklist")
    show_document(answer, as_json=as_json)
    if not isinstance(answer, dict) or not all(row["is_met"] for row in answer["requirements"]):
        raise click.exceptions.Exit(1)


def _revision_path(reference: tuple[str, int]) -> str:
    return f"/profiles/{quote(reference[0], safe='')}/revisions/{reference[1]}"


def _describe_covers(revision: Any) -> list[str]:
    """What an approval would be of beside what was measured."""
    covers = revision.get("covers", []) if isinstance(revision, dict) else []
    rows = [(row.get("name"), str(row.get("fingerprint"))[:12], row.get("verdict"), row.get("worst"), row.get("changes")) for row in covers]
    return [
        f"covers too, and nothing was measured on it: {name} {digits}, {verdict}, off by at most {worst} of the largest weight of a tensor"
        + "".join(f"; {change}" for change in changes or ())
        for name, digits, verdict, worst, changes in rows
    ]


def _describe_waivers(revision: Any) -> list[str]:
    """The gates that nobody could show, and who answers for each."""
    waivers = revision.get("waivers", []) if isinstance(revision, dict) else []
    return [
        f"not shown, and waived: {row.get('metric')} {row.get('kind')} {row.get('threshold')}"
        + (f" of {row['part']} alone" if row.get("part") else "")
        + f", by {row.get('asked_by')} and {row.get('confirmed_by')} until {str(row.get('ends_at'))[:10]}: {row.get('reason')}"
        for row in waivers
    ]


def _describe_looks(checklist: Any) -> list[str]:
    """How often test items were looked at before this evidence was there, and what came of every other look at these vectors."""
    shown = checklist if isinstance(checklist, dict) else {}
    counts = ", ".join(f"{kind} {count}" for kind, count in shown.get("looks", {}).items())
    others = [
        f"measured too: {row.get('vector') or 'the components together'}"
        + (f" at α = {row.get('alpha')} {row.get('unit')}" if row.get("alpha") is not None else "")
        + f": {row.get('verdict')}, {str(row.get('evaluated_at'))[:10]}"
        for row in shown.get("other_looks", [])
    ]
    return [*([f"looks at test items of this axis on this base model: {counts}"] if counts else []), *others]


def _read_digest(revision: Any, field: str) -> str:
    value = revision.get(field) if isinstance(revision, dict) else None
    if not isinstance(value, str) or not value:
        raise HubError("HUB_ANSWER", f"the revision has no {field}; nothing can be approved without it", field)
    return value
