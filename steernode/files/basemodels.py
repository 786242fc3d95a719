"""What a base model is: the exact files it was loaded from. Read without torch, and without running anything in the folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steernode.canonical import canonical_json, parse_strict, sha256_hex
from steernode.errors import CanonicalError, ModelError
from steernode.files.architectures import SIZES, known_families, unknown_architecture
from steernode.files.blocks import Family
from steernode.files.forms import FORM_FILE, Form, describe_form, read_form
from steernode.files.ggufs import only_gguf
from steernode.files.hashing import Stamp, hash_file, read_stamp
from steernode.files.quantization import read_quantization
from steernode.files.weights import list_loaded, list_weights, read_tensors

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
CHAT_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
CONFIG_FILES = ("config.json", "generation_config.json")
# Each of these makes a loader import code, or pick a function, that the folder names; or read a file that is not in the fingerprint.
_REFUSED_CONFIG_KEYS = {
    "auto_map": "would let the model folder run code",
    "trust_remote_code": "would let the model folder run code",
    "_attn_implementation_internal": "would let the model folder run code",
    "_experts_implementation_internal": "would let the model folder run code",
    "configuration_files": "names other files to read in the place of this one",
    "fast_tokenizer_files": "names other files to read in the place of this one",
    "transformers_weights": "names other weights to read in the place of the model's",
}
# Steering of the folder's own, which nobody approved and no flag turns off.
_STEERING_KEY = re.compile(r"abliterat|steer|control_?vector|activation_addition|refusal_direction", re.IGNORECASE)
# What a loader lays over the weights, or puts in their place.
_REFUSED_FILES = {
    "adapter_config.json": "an adapter that a loader would lay over the weights; merge it into them and save the result",
    "abliteration_config.json": "steering of its own",
    "steering_config.json": "steering of its own",
}
_SIZE_KEYS = {
    "n_layers": ("num_hidden_layers", "n_layer", "num_layers", "layers_block_type"),
    "d_model": ("hidden_size", "n_embd", "n_embed"),
    "context_length": ("max_position_embeddings", "n_positions", "seq_length"),
    "vocab_size": ("vocab_size",),
}
# What a size can be at most: as many as columns and loops of those who read it can take.
_MOST = {"n_layers": 10_000, "d_model": 2**24, "context_length": 2**31 - 1, "vocab_size": 2**31 - 1}
_MAX_CONFIG_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One exact set of weights, tokenizer, chat template and config. `files` holds (name, sha256, bytes), sorted by name."""

    architecture: str
    model_type: str
    n_layers: int
    d_model: int
    context_length: int
    vocab_size: int
    dtype: str
    files: tuple[tuple[str, str, int], ...]
    # Of what says where this model keeps its blocks and sites: no file of the folder, and so not in the fingerprint.
    architecture_digest: str
    # What the weights are quantised as, in a few words; empty if they are not.
    quantization: str = ""
    # What the folder says that it was made from; None if it says nothing.
    made_from: Form | None = None

    @property
    def form(self) -> str:
        """In words, as records and evidence name it; empty for weights that are as they were published."""
        return describe_form(self.to_document())

    def to_document(self) -> dict[str, Any]:
        """The document whose canonical bytes the fingerprint covers."""
        form: dict[str, Any] = {"quantization": self.quantization} if self.quantization else {}
        if self.made_from is not None:
            form["form"] = self.made_from.to_document()
        return {
            "schema": "steerhub.base-model/1",
            "architecture": self.architecture,
            "model_type": self.model_type,
            "n_layers": self.n_layers,
            "d_model": self.d_model,
            "context_length": self.context_length,
            "vocab_size": self.vocab_size,
            "dtype": self.dtype,
            **form,
            "files": [{"name": name, "sha256": digest, "bytes": size} for name, digest, size in self.files],
        }

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits; any changed byte of any listed file changes it."""
        return sha256_hex(canonical_json(self.to_document()))


def inspect_model(folder: Path) -> ModelFiles:
    """Reads and hashes a model folder.

    Raises: ModelError MODEL_MISSING, MODEL_FORMAT, MODEL_CONFIG_REJECTED, MODEL_ARCHITECTURE, MODEL_QUANTIZATION, MODEL_FORM,
    MODEL_TOKENIZER, MODEL_CHAT_TEMPLATE, FOLDER_CHANGED.
    """
    try:
        return _inspect(folder)
    except OSError as error:
        raise ModelError("MODEL_MISSING", f"{error.filename} cannot be read: {error.strerror}", str(error.filename)) from error


def _inspect(folder: Path) -> ModelFiles:
    if not folder.is_dir():
        raise ModelError("MODEL_MISSING", f"{folder} is not a folder; give the folder that holds config.json", str(folder))
    _refuse_files(folder)
    config = _read_config(folder, "config.json")
    if config is None:
        _refuse_gguf(folder)
        raise ModelError("MODEL_MISSING", f"{folder} has no config.json; it is not a model folder", "config.json")
    tokenizer_config = _read_config(folder, "tokenizer_config.json")
    _read_config(folder, "generation_config.json")
    family = _read_family(config)
    text = _read_text_part(config, family)
    if not any(folder.glob("*.safetensors")):
        _refuse_gguf(folder)
    weights = list_weights(folder)
    indexes = _check_indexes(folder, weights)
    list_loaded(folder, weights)
    quantization = read_quantization(config, (path.name for path in folder.iterdir()), read_tensors(folder, weights))
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ModelError("MODEL_TOKENIZER", f"{folder} has no tokenizer; save it beside the weights", "tokenizer.json")
    templates = [name for name in CHAT_TEMPLATE_FILES if (folder / name).is_file()]
    in_file = read_template_file(folder)
    if "chat_template.jinja" not in templates and in_file is None and not (tokenizer_config or {}).get("chat_template"):
        raise ModelError(
            "MODEL_CHAT_TEMPLATE",
            f"{folder} has no chat template; add chat_template.jinja, because a conversation has no other agreed text form",
            "chat_template.jinja",
        )
    others = [name for name in (*CONFIG_FILES, *_TOKENIZER_FILES, FORM_FILE) if (folder / name).is_file()]
    sizes = _class_sizes(text, family)
    return ModelFiles(
        architecture=family.class_name,
        model_type=family.model_type,
        **{name: _read_size(text, name, sizes) for name in SIZES},
        dtype=_read_dtype(config, text),
        files=tuple((name, *hash_file(folder / name)) for name in sorted({*weights, *indexes, *others, *templates})),
        architecture_digest=family.digest,
        quantization=quantization,
        made_from=read_form(folder),
    )


def read_template_file(folder: Path) -> str | None:
    """What `chat_template.json` holds, the form of before `chat_template.jinja`: the template of a tokenizer that has no other."""
    document = _read_config(folder, "chat_template.json")
    if document is None:
        return None
    template = document.get("chat_template")
    if not isinstance(template, str) or not template:
        raise ModelError("MODEL_CHAT_TEMPLATE", "chat_template.json must hold one text, 'chat_template'", "chat_template.json")
    return template


def _refuse_files(folder: Path) -> None:
    for name, what in _REFUSED_FILES.items():
        if (folder / name).is_file():
            raise ModelError("MODEL_CONFIG_REJECTED", f"{folder} holds {name}, {what}", name)


def _refuse_gguf(folder: Path) -> None:
    if sentence := only_gguf(folder):
        raise ModelError("MODEL_FORMAT", sentence, str(folder))


def _read_config(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / name
    if not path.is_file():
        return None
    try:
        config = parse_strict(path.read_bytes(), max_bytes=_MAX_CONFIG_BYTES, wide_integers=True)
    except CanonicalError as error:
        raise ModelError("MODEL_CONFIG_REJECTED", f"{name}: {error.message}", name) from error
    if not isinstance(config, dict):
        raise ModelError("MODEL_CONFIG_REJECTED", f"{name} must hold one JSON object", name)
    for key in _keys(config):
        if key in _REFUSED_CONFIG_KEYS:
            why = _REFUSED_CONFIG_KEYS[key]
        elif _STEERING_KEY.search(key):
            why = "asks for steering of its own; what steers is approved and flagged here, or not at all"
        else:
            continue
        raise ModelError("MODEL_CONFIG_REJECTED", f"{name} sets {key!r}, which {why}; remove it or use another model", key)
    _refuse_unreadable_ends(config, name)
    return config


def _refuse_unreadable_ends(config: dict[str, Any], name: str) -> None:
    """A reply is ended by what these files name; what is no token id would let it run on."""
    for part in (config, config.get("text_config")):
        ends = part.get("eos_token_id") if isinstance(part, dict) else None
        for end in ends if isinstance(ends, list) else [ends]:
            if end is not None and (isinstance(end, bool) or not isinstance(end, int)):
                raise ModelError(
                    "MODEL_CONFIG_REJECTED", f"{name} gives {str(end)[:40]!r} as an eos_token_id; it must be a token id", "eos_token_id"
                )


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for child in value.values():
            yield from _keys(child)
    elif isinstance(value, list):
        for child in value:
            yield from _keys(child)


def _read_family(config: Mapping[str, Any]) -> Family:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and len(names) == 1 else names
    types = {family.model_type: family for family in known_families().values() if family.class_name == name}
    if not types:
        raise unknown_architecture(f"architecture {name!r}", str(name)[:80])
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise ModelError("MODEL_CONFIG_REJECTED", "config.json has no model_type", "model_type")
    if model_type not in types:
        raise unknown_architecture(f"{name} with the model type {model_type!r}, instead of {' or '.join(types)},", model_type[:80])
    return types[model_type]


def _read_text_part(config: dict[str, Any], family: Family) -> dict[str, Any]:
    """The config of the decoder; of a model for more than text, the part that describes its text model."""
    if family.text_part is None:
        return config
    text = config.get(family.text_part)
    if not isinstance(text, dict):
        raise ModelError("MODEL_CONFIG_REJECTED", f"config.json has no {family.text_part}", family.text_part)
    return text


def _class_sizes(text: Mapping[str, Any], family: Family) -> Mapping[str, int]:
    """What the class takes where the config leaves a size out; a text part may be of a class of its own."""
    own = known_families().get(str(text.get("model_type"))) if family.text_part is not None else None
    return (own or family).sizes


def _read_size(text: Mapping[str, Any], name: str, sizes: Mapping[str, int]) -> int:
    keys = _SIZE_KEYS[name]
    value = next((text[key] for key in keys if key in text), sizes.get(name))
    # Some say what each layer is instead of how many there are.
    value = len(value) if isinstance(value, list) and name == "n_layers" else value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST[name]:
        problem = f"config.json must give {keys[0]} as a positive integer of at most {_MOST[name]}, got {str(value)[:40]!r}"
        raise ModelError("MODEL_CONFIG_REJECTED", problem, keys[0])
    return value


def _read_dtype(config: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    found = (part.get(key) for part in (config, text) for key in ("dtype", "torch_dtype"))
    # A config that names no dtype is loaded as float32.
    return next((dtype for dtype in found if isinstance(dtype, str)), "float32")


def _check_indexes(folder: Path, weights: list[str]) -> list[str]:
    indexes = sorted(path.name for path in folder.glob("*.safetensors.index.json"))
    for name in indexes:
        index = _read_config(folder, name) or {}
        shards = index.get("weight_map")
        missing = sorted({str(shard) for shard in shards.values()} - set(weights)) if isinstance(shards, dict) else ["weight_map"]
        if missing:
            raise ModelError("MODEL_FORMAT", f"{name} names {missing[0]}, which is not in the folder", missing[0])
    return indexes


def read_stamps(folder: Path, manifest: ModelFiles) -> tuple[Stamp, ...]:
    """Of every file of the fingerprint: as long as they are these, nobody has written to any. Raises: ModelError FOLDER_CHANGED."""
    try:
        return tuple(read_stamp(folder / name) for name, _, _ in manifest.files)
    except OSError as error:
        raise ModelError("FOLDER_CHANGED", f"{error.filename} is gone: {error.strerror}", str(error.filename)) from error
