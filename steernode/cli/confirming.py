"""What raises steering is shown before it is done, and confirmed by handing back the digest of what was shown."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import click

from steernode.cli.context import printable
from steernode.errors import HubError
from steernode.hub.client import HubClient


def confirm_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --yes and --confirm, and passes them on."""

    @click.option("--yes", is_flag=True, help="Do not ask.")
    @click.option(
        "--confirm", "confirmed", metavar="DIGEST", help="The digest of the plan that was looked at; done as it says, or not at all."
    )
    @functools.wraps(function)
    def with_confirmation(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return with_confirmation


def ask_first(hub: HubClient, path: str, body: dict[str, Any], *, yes: bool, confirmed: str | None) -> dict[str, Any]:
    """The body with what confirms it. Shows the plan of a change that raises, and asks; what raises nothing is not asked about.

    Raises: HubError CONFIRMATION_NEEDED where nobody can be asked; click.Abort for a no.
    """
    if confirmed is not None:
        return body | {"confirm": confirmed}
    plan = hub.post(f"{path}/plan", body)
    if not plan["raises"]:
        return body
    for line in describe_plan(plan):
        click.echo(printable(line), err=True)
    if not yes:
        if not sys.stdin.isatty():
            problem = f"{plan['raises']}, and nobody can be asked here; look at the plan, then give --confirm {plan['digest']}, or --yes"
            raise HubError("CONFIRMATION_NEEDED", problem)
        click.confirm("Do it?", abort=True, err=True)
    return body | {"confirm": plan["digest"]}


def describe_plan(plan: dict[str, Any]) -> list[str]:
    lines = [f"{change['field'].removeprefix('spec.')}: {_show(change['before'])} → {_show(change['after'])}" for change in plan["changes"]]
    lines += [f"{'blocked: ' if risk['blocks'] else ''}{risk['message']}" for risk in plan["risks"]]
    who = ", ".join(plan["newly_steered"]) or "nobody"
    return [*lines, f"newly steered: {who}; nodes that hear of it: {plan['nodes']}", f"plan {plan['digest']}"]


def _show(value: Any) -> str:
    return "nothing" if value is None else str(value)
