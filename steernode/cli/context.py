"""What all commands share: where the hub is, how an error is told, how a document and a table are shown."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steernode.errors import HubError, SteerError
from steernode.files.architectures import learn_architectures
from steernode.hub.client import HubClient

DEFAULT_HUB = "http://127.0.0.1:8000"
_F = TypeVar("_F", bound=Callable[..., Any])
# Of a table of rows: a field, or a heading with a function of the row.
Column = str | tuple[str, Callable[[dict[str, Any]], Any]]


class SteerGroup(click.Group):
    """Every SteerError ends here: `error CODE: message` on stderr, exit status 1. Wrong usage keeps click's status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SteerError as error:
            click.echo(f"error {error.code}: {printable(error.message)}", err=True)
            ctx.exit(1)


def printable(text: str) -> str:
    """Text from elsewhere without control characters, which could rewrite what the terminal already shows."""
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)


def read_token(token: str | None, token_file: Path | None) -> str:
    if token_file is not None:
        try:
            return token_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise HubError("HUB_TOKEN", f"cannot read the token file {token_file}", str(token_file)) from error
    if not token:
        raise HubError("HUB_TOKEN", "no token; set STEERHUB_TOKEN or give --token-file")
    return token


def hub_options(function: _F) -> _F:
    """Adds --hub, --token and --token-file, and passes the client they make as `hub`: None to a command that is told --offline."""

    @click.option("--hub", "hub_url", envvar="STEERHUB_URL", default=DEFAULT_HUB, show_default=True, help="The hub's URL [STEERHUB_URL].")
    @click.option("--token", envvar="STEERHUB_TOKEN", help="Your API token; better in STEERHUB_TOKEN, other users can see arguments.")
    @click.option(
        "--token-file", envvar="STEERHUB_TOKEN_FILE", type=click.Path(dir_okay=False, path_type=Path), help="A file with the token."
    )
    @functools.wraps(function)
    def with_hub(*args: Any, hub_url: str, token: str | None, token_file: Path | None, **kwargs: Any) -> Any:
        if kwargs.get("offline"):
            return function(*args, hub=None, **kwargs)
        hub = HubClient(hub_url, read_token(token, token_file))
        try:
            return function(*args, hub=hub, **kwargs)
        finally:
            hub.close()

    return cast(_F, with_hub)


def output_option(function: _F) -> _F:
    """Adds -o and --json, and passes `as_json`: whether a program is to read what is printed. Nothing but JSON goes to stdout then."""

    @click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How it is printed.")
    @click.option("--json", "output", flag_value="json", help="As -o json.")
    @functools.wraps(function)
    def with_output(*args: Any, output: str, **kwargs: Any) -> Any:
        return function(*args, as_json=output == "json", **kwargs)

    return cast(_F, with_output)


def architectures_option(function: _F) -> _F:
    """Adds --architectures: files of one's own, learned before the command does anything."""

    def learn(_context: click.Context, _parameter: click.Parameter, folder: Path | None) -> None:
        if folder is not None:
            learn_architectures(folder)

    return click.option(
        "--architectures",
        envvar="STEERHUB_ARCHITECTURES",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=learn,
        help="A folder of architecture files besides those that ship [STEERHUB_ARCHITECTURES].",
    )(function)


def parse_reference(text: str) -> tuple[str, int]:
    """NAME@NUMBER, such as harbor-empathy@3. Raises: click.BadParameter."""
    name, _, number = text.rpartition("@")
    if not name or "/" in name or not (number.isascii() and number.isdigit() and int(number) >= 1):
        raise click.BadParameter(f"{text!r} is not NAME@NUMBER, such as harbor-empathy@3")
    return name, int(number)


def console() -> Console:
    # Without a terminal there is no width to wrap at, and a wrapped digest cannot be copied.
    return Console(width=None if sys.stdout.isatty() else 240)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(printable("" if cell is None else str(cell)), overflow="fold") for cell in row))
    console().print(table)


def show_rows(rows: list[dict[str, Any]], columns: Sequence[Column], *, as_json: bool) -> None:
    """Rows as a table, or as JSON with all that is said of each."""
    if as_json:
        show_document(rows, as_json=True)
        return
    cells = [[row.get(column) if isinstance(column, str) else column[1](row) for column in columns] for row in rows]
    show_table(
        [column if isinstance(column, str) else column[0] for column in columns],
        [[", ".join(map(str, cell)) if isinstance(cell, list) else cell for cell in row] for row in cells],
    )


def show_document(document: Any, *, as_json: bool = False) -> None:
    """A document as `name: value` lines, or as JSON."""
    if as_json or not isinstance(document, dict):
        click.echo(json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True))
        return
    for name, value in document.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        click.echo(f"{name}: {printable(shown)}")


def read_results(answer: Any) -> list[dict[str, Any]]:
    """The rows of a list the hub answered with, paged or not."""
    rows = answer.get("results") if isinstance(answer, dict) else answer
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise HubError("HUB_ANSWER", "the hub's answer is not a list of objects; are hub and steer of the same version?")
    return rows
