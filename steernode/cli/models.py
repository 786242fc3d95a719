"""`steer model`: model folders on this machine, made of other files."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from steernode.cli.context import architectures_option, show_document
from steernode.files.forms import DTYPES


@click.group()
def model() -> None:
    """Model folders: convert what other engines read, compare two forms of one model."""


@model.command("convert")
@click.argument("file", metavar="FILE.gguf", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="What the weights are dequantised to.")
@architectures_option
def convert(file: Path, folder: Path, dtype: str) -> None:
    """Make a model folder of a GGUF file, its weights dequantised. The folder says what it was made from, in its fingerprint too."""
    from steernode.integrations.converting import convert_gguf

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading")
        files = convert_gguf(
            file,
            folder,
            dtype=dtype,
            on_stage=lambda stage, done, total: progress.update(task, description=stage, completed=done, total=total),
        )
    show_document({"folder": str(folder), "fingerprint": files.fingerprint, "form": files.form})
