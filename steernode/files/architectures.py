"""Architectures: where each family of decoder models keeps what the engine reads and steers. Data files, read without torch.

Those that ship are in `steernode/data/architectures`; `learn_architectures` adds a folder of an operator's own. A file is read
strictly and holds no code. What it says of a model is proved when the model is loaded: `steernode.engine.access.proving`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from steernode.canonical import canonical_json, sha256_hex
from steernode.errors import FieldError, ManifestError, ModelError
from steernode.files.blocks import ATTENTIONS, NORMS, PLACES, WHOLE, Family
from steernode.strict import read_exactly, read_integer, read_list, read_one_of, read_switch, read_text
from steernode.yamltext import Places, read_yaml

SCHEMA = "steerhub.architecture/1"
# What a family's class takes where a config does not say it.
SIZES = ("n_layers", "d_model", "context_length", "vocab_size")
_MAX_FILE_BYTES = 64 * 1024
_PATH = re.compile(r"[A-Za-z_]\w{0,60}(\.\w{1,60}){0,8}", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][\w-]{0,99}", re.ASCII)
_CONFIG_KEY = re.compile(r"[A-Za-z_]\w{0,60}", re.ASCII)
_NEEDED = ("schema", "models", "decoder", "blocks", "final_norm", *PLACES)
_OPTIONAL = ("text", "attention", "residual_multiplier", *NORMS, "when")


_learned: dict[str, Family] = {}


@cache
def _shipped() -> Mapping[str, Family]:
    with as_file(files("steernode") / "data" / "architectures") as folder:
        return {family.model_type: family for family in _read_folder(folder)}


def known_families() -> dict[str, Family]:
    """By `model_type`: those that ship, and those that this process learned."""
    return {**_shipped(), **_learned}


def learn_architectures(folder: Path) -> tuple[Family, ...]:
    """Teaches this process the files of a folder. All of them or none; learning the same again changes nothing.

    Raises: ModelError ARCHITECTURE_FILE, ARCHITECTURE_TAKEN if a model type has another entry.
    """
    found = tuple(_read_folder(folder))
    known: dict[str, Family] = known_families()
    for family in found:
        taken = known.setdefault(family.model_type, family)
        if taken.digest != family.digest:
            raise ModelError(
                "ARCHITECTURE_TAKEN",
                f"{folder} describes model type {family.model_type!r}, which is known already, as {taken.class_name} by digest "
                f"{taken.digest[:12]}; what is learned cannot change how a known model is read",
                family.model_type,
            )
    _learned.update({family.model_type: family for family in found if family.model_type not in _shipped()})
    return found


def find_family(model_type: Any) -> Family:
    """Raises: ModelError MODEL_ARCHITECTURE."""
    family = known_families().get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise unknown_architecture(f"model type {model_type!r}", str(model_type)[:80])
    return family


def unknown_architecture(what: str, item: str) -> ModelError:
    """Says what to do, and where the names of all that are known can be read."""
    return ModelError(
        "MODEL_ARCHITECTURE",
        f"{what} is not known here. To teach it, write an architecture file as docs/engine.md shows, and name its folder in "
        f"STEERHUB_ARCHITECTURES or by --architectures. `steer inspect architectures` lists the {len(known_families())} that are known",
        item,
    )


def _read_folder(folder: Path) -> Iterator[Family]:
    if not folder.is_dir():
        raise ModelError("ARCHITECTURE_FILE", f"{folder} is not a folder of architecture files", str(folder))
    seen: dict[str, Path] = {}
    for path in sorted(folder.glob("*.y*ml")):
        if path.name.startswith(".") or path.suffix not in (".yaml", ".yml"):
            continue
        for family in read_architecture_file(path):
            if family.model_type in seen:
                raise ModelError(
                    "ARCHITECTURE_FILE", f"{path} and {seen[family.model_type]} both describe {family.model_type!r}", family.model_type
                )
            seen[family.model_type] = path
            yield family


def read_architecture_file(path: Path) -> tuple[Family, ...]:
    """Raises: ModelError ARCHITECTURE_FILE, with line and column."""
    try:
        documents = read_yaml(path, _MAX_FILE_BYTES)
    except ManifestError as error:
        raise ModelError("ARCHITECTURE_FILE", error.message, error.item) from error
    if len(documents) != 1:
        raise ModelError("ARCHITECTURE_FILE", f"{path} holds {len(documents)} documents; an architecture file holds one", str(path))
    [(document, places)] = documents
    try:
        return _read_document(document)
    except FieldError as error:
        name = str(error.item).removeprefix("file").removeprefix(".")
        line, column = _locate(places, name)
        message = f"{path} line {line} column {column}: {name or 'the file'} {error.args[1]}"
        raise ModelError("ARCHITECTURE_FILE", message, name) from error


def _locate(places: Places, name: str) -> tuple[int, int]:
    name = re.sub(r"\[(\d+)\]", r".\1", name)
    while name and name not in places:
        name = name.rpartition(".")[0]
    return places[name]


def _read_document(document: dict[str, Any]) -> tuple[Family, ...]:
    read_exactly(document, "file", _NEEDED, optional=_OPTIONAL)
    read_one_of(document["schema"], "file.schema", (SCHEMA,))
    for key in ("decoder", "blocks"):
        _check_path(document[key], f"file.{key}")
    _check_changes({key: document[key] for key in (*WHOLE, *PLACES, *NORMS) if key in document}, "file")
    text = document.get("text")
    if text is not None:
        _check_matches(_CONFIG_KEY, text, "file.text")
    read_list(document.get("when", []), "file.when", _check_case)
    models = document["models"]
    if not isinstance(models, dict) or not models:
        raise FieldError("file.models", "must name at least one model type and its class")
    layout = {key: value for key, value in document.items() if key != "models"}
    return tuple(_read_family(model_type, model, layout, text) for model_type, model in models.items())


def _read_family(model_type: str, model: Any, layout: dict[str, Any], text: str | None) -> Family:
    path = f"file.models.{model_type}"
    _check_matches(_NAME, model_type, path)
    read_exactly(model, path, ("class",), optional=SIZES)
    class_name = _check_matches(_NAME, model["class"], f"{path}.class")
    sizes = {name: read_integer(model[name], f"{path}.{name}", least=1) for name in SIZES if name in model}
    document = {**layout, "model_type": model_type, "class": class_name}
    return Family(model_type, class_name, text, sizes, document, sha256_hex(canonical_json(document)))


def _check_case(case: Any, path: str) -> None:
    read_exactly(case, path, ("if",), optional=(*WHOLE, *PLACES, *NORMS))
    if not isinstance(case["if"], dict) or not case["if"] or len(case) == 1:
        raise FieldError(path, "must have conditions and say what is then otherwise")
    for key, wanted in case["if"].items():
        _check_matches(_CONFIG_KEY, key, f"{path}.if")
        if not isinstance(wanted, bool | int | str):
            raise FieldError(f"{path}.if.{key}", "must be a word, a whole number, true or false")
    _check_changes({key: value for key, value in case.items() if key != "if"}, path)


def _check_changes(changes: Mapping[str, Any], path: str) -> None:
    for key, value in changes.items():
        where = f"{path}.{key}"
        if key in PLACES:
            if value is not None:
                _check_place(value, where)
        elif key == "attention":
            read_one_of(value, where, ATTENTIONS)
        elif key == "residual_multiplier":
            read_exactly(value, where, ("config",), optional=("over_root_of",))
            for name in value:
                _check_matches(_CONFIG_KEY, value[name], f"{where}.{name}")
        elif value is not None:
            _check_path(value, where)


def _check_place(value: Any, path: str) -> None:
    read_exactly(value, path, (), optional=("output", "input", "flat"))
    if ("output" in value) == ("input" in value):
        raise FieldError(path, "must name a module by either output or input")
    module = "input" if "input" in value else "output"
    _check_path(value[module], f"{path}.{module}")
    read_switch(value.get("flat", False), f"{path}.flat")


def _check_path(value: Any, path: str) -> str:
    return _check_matches(_PATH, value, path)


def _check_matches(pattern: re.Pattern[str], value: Any, path: str) -> str:
    text = read_text(value, path)
    if not pattern.fullmatch(text):
        raise FieldError(path, f"is {text!r}, which names nothing that a model could have")
    return text
