"""`steer inspect`: what a file or folder is, without asking anybody."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from steernode.cli.context import architectures_option, output_option, show_document, show_rows
from steernode.files.architectures import known_families
from steernode.files.basemodels import inspect_model
from steernode.files.contrast import parse_pairs
from steernode.files.prompts import parse_prompts
from steernode.files.splits import refuse_one_question, split_pairs
from steernode.files.templates import reads_clock
from steernode.files.vectors import MAX_FILE_BYTES, read_vector

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def inspect() -> None:
    """Look at a model folder, a vector file, a contrast set or labelled prompts, and at what is known of architectures."""


@inspect.command("model")
@click.argument("folder", type=click.Path(path_type=Path))
@architectures_option
@output_option
def inspect_model_command(folder: Path, as_json: bool) -> None:
    """Fingerprint a model folder. Nothing in it is run."""
    manifest = inspect_model(folder)
    document = {
        "fingerprint": manifest.fingerprint,
        "architecture_digest": manifest.architecture_digest,
        **manifest.to_document(),
        "template_reads_clock": reads_clock(folder),
    }
    if not as_json:
        document["files"] = f"{len(manifest.files)} files, {sum(size for _name, _digest, size in manifest.files)} bytes"
    show_document(document, as_json=as_json)


@inspect.command("architectures")
@architectures_option
@output_option
def list_architectures(as_json: bool) -> None:
    """The classes of models that are known here: those that ship, and those of --architectures."""
    rows = [
        {"class": family.class_name, "model_type": family.model_type, "digest": family.digest}
        for family in sorted(known_families().values(), key=lambda family: (family.class_name.lower(), family.model_type))
    ]
    show_rows(rows, ["class", "model_type", "digest"], as_json=as_json)


@inspect.command("vector")
@click.argument("file", type=_FILE)
@output_option
def inspect_vector(file: Path, as_json: bool) -> None:
    """Check a vector file and show its lineage."""
    with file.open("rb") as stream:
        vector = read_vector(stream.read(MAX_FILE_BYTES + 1))
    show_document(
        {"digest": vector.digest, "dtype": vector.dtype, "d_model": int(vector.direction.size), **vector.lineage}, as_json=as_json
    )


@inspect.command("pairs")
@click.argument("file", type=_FILE)
@output_option
def inspect_pairs(file: Path, as_json: bool) -> None:
    """Check a contrast set and count what it holds, and what goes to each part of its split."""
    contrast = parse_pairs(file.read_bytes())
    refuse_one_question(contrast.pairs)
    document = {
        "digest": contrast.digest,
        "pairs": len(contrast.pairs),
        "splits": {name: len(part) for name, part in split_pairs(contrast.pairs).items()},
        "locales": dict(sorted(Counter(pair.locale for pair in contrast.pairs).items())),
        "products": dict(sorted(Counter(pair.product for pair in contrast.pairs).items())),
    }
    show_document(document, as_json=as_json)


@inspect.command("prompts")
@click.argument("file", type=_FILE)
@output_option
def inspect_prompts(file: Path, as_json: bool) -> None:
    """Check labelled prompts, and count what a probe would learn from."""
    labelled = parse_prompts(file.read_bytes())
    document = {
        "digest": labelled.digest,
        "prompts": len(labelled.prompts),
        "intents": list(labelled.intents),
        **labelled.count(),
        "locales": dict(sorted(Counter(prompt.locale for prompt in labelled.prompts).items())),
        "kinds": dict(sorted(Counter(prompt.kind for prompt in labelled.prompts).items())),
    }
    show_document(document, as_json=as_json)
