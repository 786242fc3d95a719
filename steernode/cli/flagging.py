"""`steer flag` and `steer explain`: who is steered by what, since when and why, and what one request would get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import click

from steernode.canonical import format_decimal, parse_alpha
from steernode.cli.confirming import ask_first, confirm_options
from steernode.cli.context import hub_options, output_option, parse_reference, read_results, show_document, show_rows, show_table
from steernode.hub.client import HubClient
from steernode.hub.flagtext import read_arm, read_bounds
from steernode.words import FLAG_FIELDS

_F = TypeVar("_F", bound=Callable[..., Any])


def _of_tenant(function: _F) -> _F:
    for option in (
        click.option("--route", default="", help="Only this route; without it, every route that has no flag of its own."),
        click.option("--tenant", required=True),
        click.option("--environment", required=True),
    ):
        function = option(function)
    return function


def parse_arm(text: str) -> dict[str, Any]:
    """Raises: click.BadParameter, AlphaError."""
    try:
        arm = read_arm(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    points_at = {"profile": arm.profile, "revision": arm.revision} if arm.profile else {}
    scaled = {} if arm.alpha_scale is None else {"alpha_scale": format_decimal(arm.alpha_scale)}
    return {"name": arm.name, "weight": arm.weight, **points_at, **scaled}


def parse_bounds(text: str) -> dict[str, str] | None:
    """Raises: click.BadParameter, AlphaError."""
    try:
        bounds = read_bounds(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return {"alpha_min": format_decimal(bounds[0]), "alpha_max": format_decimal(bounds[1])} if bounds else None


@click.group()
def flag() -> None:
    """Which tenant gets which profile."""


@flag.command("set")
@_of_tenant
@click.option("--profile", "reference", type=parse_reference, metavar="NAME@NUMBER", help="Left out: what the flag points at already.")
@click.option("--on/--off", "enabled", default=None)
@click.option("--alpha-scale", help="Weakens what was approved: 0.5 is half.")
@click.option("--rollout", help="The share of callers, in percent.")
@click.option("--arm", "arms", multiple=True, type=parse_arm, metavar="NAME=WEIGHT[,NAME@NUMBER][,xSCALE]", help="One side of an A/B test.")
@click.option("--no-arms", is_flag=True, help="End the A/B test.")
@click.option("--rollout-salt", help="Which callers the share covers: the salt of a flag whose callers shall be the same.")
@click.option("--arms-salt", help="Which arm each caller is in, likewise. Without one, a new test draws its own.")
@click.option("--override", metavar="LEAST:MOST", help="What a request may ask for as its α, or none.")
@click.option("--inherit", multiple=True, type=click.Choice(FLAG_FIELDS), help="Give a route's field back to the tenant's flag.")
@click.option("--reason", required=True)
@confirm_options
@output_option
@hub_options
def set_flag(
    hub: HubClient,
    environment: str,
    tenant: str,
    route: str,
    reference: tuple[str, int] | None,
    enabled: bool | None,
    alpha_scale: str | None,
    rollout: str | None,
    arms: tuple[dict[str, Any], ...],
    no_arms: bool,
    rollout_salt: str | None,
    arms_salt: str | None,
    override: str | None,
    inherit: tuple[str, ...],
    reason: str,
    yes: bool,
    confirmed: str | None,
    as_json: bool,
) -> None:
    """Turn steering on or off for a tenant. What is not mentioned stays as it is; a new route inherits it from the tenant's flag.

    What raises steering is shown first, and asked about. Turning off never is.
    """
    if enabled is None:
        raise click.UsageError("say --on or --off")
    if arms and no_arms:
        raise click.UsageError("--arm and --no-arms exclude each other")
    body: dict[str, Any] = {"route": route, "enabled": enabled, "reason": reason}
    if reference is not None:
        body |= {"profile": reference[0], "revision": reference[1]}
    if alpha_scale is not None:
        body["alpha_scale"] = format_decimal(parse_alpha(alpha_scale))
    if rollout is not None:
        body["rollout"] = format_decimal(parse_alpha(rollout))
    if arms or no_arms:
        body["arms"] = list(arms)
    body |= {name: salt for name, salt in (("rollout_salt", rollout_salt), ("arms_salt", arms_salt)) if salt is not None}
    if override is not None:
        body["override"] = parse_bounds(override)
    if inherit:
        body["inherit"] = list(inherit)
    path = _flag_path(environment, tenant)
    if enabled:
        body = ask_first(hub, path, body, yes=yes, confirmed=confirmed)
    show_document(hub.put(path, body), as_json=as_json)


@flag.command("show")
@_of_tenant
@output_option
@hub_options
def show_flag(hub: HubClient, environment: str, tenant: str, route: str, as_json: bool) -> None:
    """What a flag states. What it inherits is null here."""
    show_document(hub.get(f"{_flag_path(environment, tenant)}{_query(route=route)}"), as_json=as_json)


@flag.command("history")
@_of_tenant
@output_option
@hub_options
def show_history(hub: HubClient, environment: str, tenant: str, route: str, as_json: bool) -> None:
    """Who changed a flag, when, why and how: newest first, from the audit log."""
    rows = read_results(hub.get(f"{_flag_path(environment, tenant)}/history{_query(route=route)}"))
    by, changes = ("by", lambda row: row.get("actor")), ("changes", lambda row: "; ".join(row.get("changes") or []))
    show_rows(rows, ["version", "at", by, changes, "reason"], as_json=as_json)


@click.command()
@_of_tenant
@click.option("--key", default="", help="The rollout key that the request would give.")
@click.option("--alpha", default="", help="The α that the request would ask for.")
@output_option
@hub_options
def explain(hub: HubClient, environment: str, tenant: str, route: str, key: str, alpha: str, as_json: bool) -> None:
    """What a request would get, and every rule that had a say."""
    asked = _query(tenant=tenant, route=route, key=key, alpha=format_decimal(parse_alpha(alpha)) if alpha else "")
    answer = hub.get(f"/environments/{quote(environment, safe='')}/explain{asked}")
    if as_json or not isinstance(answer, dict):
        show_document(answer, as_json=True)
        return
    rules = read_results(answer.pop("rules", []))
    show_table(["rule", "says", ""], [[rule.get("rule"), rule.get("says"), rule.get("reason")] for rule in rules])
    show_document({name: value for name, value in answer.items() if value not in ("", None, [])})


def _flag_path(environment: str, tenant: str) -> str:
    return f"/environments/{quote(environment, safe='')}/flags/{quote(tenant, safe='')}"


def _query(**parameters: str) -> str:
    given = {name: value for name, value in parameters.items() if value}
    return f"?{urlencode(given)}" if given else ""
