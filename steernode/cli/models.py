"""`steer model`: model folders on this machine, converted, measured and registered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from steernode.behaviour import read_behaviour
from steernode.cli.context import architectures_option, hub_options, output_option, printable, show_document, show_table
from steernode.comparison import DIFFERENT
from steernode.errors import HubError, ModelError
from steernode.files.comparing import TensorComparison, compare_folders
from steernode.files.forms import DTYPES
from steernode.hub.client import HubClient
from steernode.strict import refused_as

# Of a comparison: as many tensors as fit below its verdict on a screen.
_SHOWN = 10


@click.group()
def model() -> None:
    """Model folders: convert what other engines read, compare, register, prove what was loaded."""


@model.command("convert")
@click.argument("file", metavar="FILE.gguf", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="What the weights are dequantised to.")
@architectures_option
@output_option
def convert(file: Path, folder: Path, dtype: str, as_json: bool) -> None:
    """Make a model folder of a GGUF file, its weights dequantised. The folder says what it was made from, in its fingerprint too."""
    from steernode.integrations.converting import convert_gguf

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading")
        files = convert_gguf(
            file,
            folder,
            dtype=dtype,
            on_stage=lambda stage, done, total: progress.update(task, description=stage, completed=done, total=total),
        )
    show_document({"folder": str(folder), "fingerprint": files.fingerprint, "form": files.form}, as_json=as_json)


@model.command("register")
@click.argument("name")
@click.option("--source", required=True, help="The folder below STEERHUB_MODEL_ROOT, as the hub and its workers find it.")
@click.option("--folder", type=click.Path(path_type=Path), help="The same files on this machine, to measure what the model says.")
@click.option("--reference", type=click.Choice(DTYPES), default="float32", show_default=True, help="The dtype it is measured in.")
@click.option("--dtype", "dtypes", type=click.Choice(DTYPES), multiple=True, help="Another dtype that it may be loaded in; repeatable.")
@click.option("--derived-from", metavar="NAME[@FINGERPRINT]", help="The base model on record that this one is a form of.")
@click.option("--compared", type=click.Path(path_type=Path), help="The files of that base model on this machine, to compare with --folder.")
@architectures_option
@output_option
@hub_options
def register(
    hub: HubClient,
    name: str,
    source: str,
    folder: Path | None,
    reference: str,
    dtypes: tuple[str, ...],
    derived_from: str | None,
    compared: Path | None,
    as_json: bool,
) -> None:
    """Fingerprint and register a base model. With --folder what it says to eight fixed prompts goes on record too, so that workers and
    nodes prove what they load, in the dtypes that are named here."""
    if (derived_from is None) != (compared is None) or (compared is not None and folder is None):
        raise click.UsageError("--derived-from goes with --compared and --folder: the two folders are compared")
    body: dict[str, Any] = {"name": name, "source": source}
    relation = ""
    if compared is not None and folder is not None:
        comparison, _ = compare_folders(compared, folder)
        if not comparison.is_form:
            raise ModelError("FORM_NOT_DERIVED", f"{folder} is no form of {compared}: {comparison.describe()}", comparison.wrong)
        body |= {"derived_from": derived_from, "comparison": comparison.to_document()}
        relation = f"of {derived_from}: {comparison.describe()}"
    if folder is not None:
        from steernode.integrations.registering import measure_folder

        fingerprint, behaviour = measure_folder(folder, reference, dtypes)
        body |= {"fingerprint": fingerprint, "behaviour": behaviour.to_document()}
    answer = hub.post("/base-models", body)
    if as_json:
        show_document(answer, as_json=True)
    else:
        click.echo(f"{printable(answer['name'])} {answer['fingerprint']}")
        if answer["form"]:
            click.echo(f"form: {printable(answer['form'])}")
        if relation:
            click.echo(printable(relation))
    if answer["behaviour"] is None:
        click.echo("what it says to the eight prompts is not on record: workers and nodes prove nothing of what they load", err=True)


@model.command("compare")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path))
@click.option("--all", "show_all", is_flag=True, help="Show every tensor, and not only those that differ most.")
@output_option
@architectures_option
def compare(base: Path, other: Path, show_all: bool, as_json: bool) -> None:
    """Whether OTHER holds the weights of BASE in another form, tensor by tensor. Exit status 1 if not."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("comparing")
        found, tensors = compare_folders(base, other, on_progress=lambda done, total: progress.update(task, completed=done, total=total))
    if as_json:
        rows = [
            {"name": each.name, "shape": each.shape, "dtypes": each.dtypes, "worst": each.worst, "mean": each.mean, "verdict": each.verdict}
            for each in tensors
        ]
        # JSON has no infinity.
        rows = [row | {name: str(row[name]) for name in ("worst", "mean")} for row in rows]
        show_document(found.to_document() | {"of_each": rows}, as_json=True)
    else:
        click.echo(found.describe())
        _show_tensors(tensors if show_all else _list_worst(tensors))
        if not show_all and len(tensors) > _SHOWN:
            click.echo(f"the {_SHOWN} of {len(tensors)} tensors that differ most; --all shows the rest")
    if not found.is_form:
        raise SystemExit(1)


def _list_worst(tensors: Sequence[TensorComparison]) -> list[TensorComparison]:
    """Those first that are another's, then those that differ most; equal ones keep their order."""
    return sorted(tensors, key=lambda each: (each.verdict == DIFFERENT, each.mean), reverse=True)[:_SHOWN]


def _show_tensors(tensors: Sequence[TensorComparison]) -> None:
    show_table(
        ["tensor", "shape", "dtypes", "worst", "mean", "verdict"],
        [
            (each.name, "×".join(map(str, each.shape)), " → ".join(each.dtypes), f"{each.worst:.3g}", f"{each.mean:.3g}", each.verdict)
            for each in tensors
        ],
    )


@model.command("prove")
@click.argument("reference", metavar="NAME[@FINGERPRINT]")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True)
@architectures_option
@output_option
@hub_options
def prove(hub: HubClient, reference: str, folder: Path, dtype: str, as_json: bool) -> None:
    """Whether the model in a folder says what the base model on record said when it was registered."""
    known = hub.get(f"/base-models/{quote(reference, safe='@')}")
    if known["behaviour"] is None:
        raise ModelError("NOT_MEASURED", f"{known['name']} was registered without what it says to the eight prompts", known["name"])
    from steernode.integrations.registering import prove_folder

    with refused_as(HubError, "HUB_ANSWER"):
        behaviour = read_behaviour(known["behaviour"], "behaviour")
    proof = prove_folder(folder, dtype, behaviour)
    if proof is None:
        raise ModelError("NOT_MEASURED", f"nobody measured {known['name']} in {dtype}; it was in {', '.join(behaviour.moved)}", dtype)
    if as_json:
        show_document({"proved": True, "off": str(proof.off), "tolerance": str(proof.tolerance), "dtype": proof.dtype}, as_json=True)
        return
    click.echo(f"proved: {proof.off} nats off at most, {proof.tolerance} is rounding in {proof.dtype}")
