"""What a base model is: the exact files it was loaded from. Read without torch, and without running anything in the folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steernode.canonical import canonical_json, parse_strict, sha256_hex
from steernode.errors import CanonicalError, ModelError

# Those that `steernode.engine.access.architectures` has an entry for; named here too because this file is read without torch.
KNOWN_ARCHITECTURES = [
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "MixtralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "Qwen3MoeForCausalLM",
    "GemmaForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "Phi3ForCausalLM",
    "Olmo2ForCausalLM",
    "GPT2LMHeadModel",
    "GPTNeoXForCausalLM",
    "OPTForCausalLM",
    "FalconForCausalLM",
    "StableLmForCausalLM",
    "GraniteForCausalLM",
    "Cohere2ForCausalLM",
]

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
_PICKLED_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# Each of these makes a loader import code, or pick an attention function, that the folder names.
_REFUSED_CONFIG_KEYS = ("auto_map", "_attn_implementation_internal", "trust_remote_code")
_MAX_CONFIG_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024


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

    def to_document(self) -> dict[str, Any]:
        """The document whose canonical bytes the fingerprint covers."""
        return {
            "schema": "steerhub.base-model/1",
            "architecture": self.architecture,
            "model_type": self.model_type,
            "n_layers": self.n_layers,
            "d_model": self.d_model,
            "context_length": self.context_length,
            "vocab_size": self.vocab_size,
            "dtype": self.dtype,
            "files": [{"name": name, "sha256": digest, "bytes": size} for name, digest, size in self.files],
        }

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits; any changed byte of any listed file changes it."""
        return sha256_hex(canonical_json(self.to_document()))


def know_architecture(class_name: str) -> None:
    """Lets `inspect_model` accept another class of `architectures`. `register_architecture` calls it."""
    if class_name not in KNOWN_ARCHITECTURES:
        KNOWN_ARCHITECTURES.append(class_name)


def unknown_architecture(what: str, item: str) -> ModelError:
    return ModelError(
        "MODEL_ARCHITECTURE",
        f"{what} is not known; known are {', '.join(KNOWN_ARCHITECTURES)}. To register it, say where it keeps its blocks and sites:\n"
        "    from steernode.engine.access.architectures import Architecture, Place, register_architecture\n"
        '    register_architecture("my_type", "MyForCausalLM", Architecture(decoder="model", attn_out=Place("self_attn")))',
        item,
    )


def inspect_model(folder: Path) -> ModelFiles:
    """Reads and hashes a model folder.

    Raises: ModelError MODEL_MISSING, MODEL_FORMAT, MODEL_CONFIG_REJECTED, MODEL_ARCHITECTURE, MODEL_TOKENIZER, MODEL_CHAT_TEMPLATE.
    """
    if not folder.is_dir():
        raise ModelError("MODEL_MISSING", f"{folder} is not a folder; give the folder that holds config.json", str(folder))
    config = _read_config(folder, "config.json")
    if config is None:
        raise ModelError("MODEL_MISSING", f"{folder} has no config.json; it is not a model folder", "config.json")
    tokenizer_config = _read_config(folder, "tokenizer_config.json")
    _read_config(folder, "generation_config.json")
    architecture = _read_architecture(config)
    weights = _list_weights(folder)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ModelError("MODEL_TOKENIZER", f"{folder} has no tokenizer; save it beside the weights", "tokenizer.json")
    templates = [name for name in CHAT_TEMPLATE_FILES if (folder / name).is_file()]
    if not templates and not (tokenizer_config or {}).get("chat_template"):
        raise ModelError(
            "MODEL_CHAT_TEMPLATE",
            f"{folder} has no chat template; add chat_template.jinja, because a conversation has no other agreed text form",
            "chat_template.jinja",
        )
    others = [name for name in (*CONFIG_FILES, *_TOKENIZER_FILES) if (folder / name).is_file()]
    return ModelFiles(
        architecture=architecture,
        model_type=_read_name(config, "model_type"),
        n_layers=_read_size(config, "num_hidden_layers", "n_layer"),
        d_model=_read_size(config, "hidden_size", "n_embd"),
        context_length=_read_size(config, "max_position_embeddings", "n_positions"),
        vocab_size=_read_size(config, "vocab_size"),
        dtype=_read_dtype(config),
        files=tuple(_hash_file(folder, name) for name in sorted({*weights, *others, *templates})),
    )


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
    refused = next(_refused_keys(config), None)
    if refused is not None:
        raise ModelError(
            "MODEL_CONFIG_REJECTED",
            f"{name} sets {refused!r}, which would let the model folder run code; remove it or use another model",
            refused,
        )
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


def _refused_keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (key for key in value if key in _REFUSED_CONFIG_KEYS)
        for child in value.values():
            yield from _refused_keys(child)
    elif isinstance(value, list):
        for child in value:
            yield from _refused_keys(child)


def _read_architecture(config: dict[str, Any]) -> str:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and len(names) == 1 else names
    if name not in KNOWN_ARCHITECTURES:
        raise unknown_architecture(f"architecture {name!r}", str(name)[:80])
    return str(name)


def _read_name(config: dict[str, Any], key: str) -> str:
    value = config.get(key)
    if not isinstance(value, str) or not value:
        raise ModelError("MODEL_CONFIG_REJECTED", f"config.json has no {key}", key)
    return value


def _read_size(config: dict[str, Any], *keys: str) -> int:
    value = next((config[key] for key in keys if key in config), None)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError("MODEL_CONFIG_REJECTED", f"config.json must give {keys[0]} as a positive integer, got {value!r}", keys[0])
    return value


def _read_dtype(config: dict[str, Any]) -> str:
    dtype = config.get("dtype", config.get("torch_dtype"))
    # A config that names no dtype is loaded as float32.
    return dtype if isinstance(dtype, str) else "float32"


def _list_weights(folder: Path) -> list[str]:
    weights = sorted(path.name for path in folder.glob("*.safetensors"))
    indexes = sorted(path.name for path in folder.glob("*.safetensors.index.json"))
    if not weights:
        pickled = sorted(path.name for pattern in _PICKLED_PATTERNS for path in folder.glob(pattern))
        if pickled:
            raise ModelError(
                "MODEL_FORMAT",
                f"{pickled[0]} is a pickle, which can run code when it is opened; convert the weights to safetensors "
                "(model.save_pretrained(folder, safe_serialization=True))",
                pickled[0],
            )
        raise ModelError("MODEL_FORMAT", f"{folder} has no *.safetensors weights", str(folder))
    for name in weights:
        _refuse_partial_weights(folder / name)
    for name in indexes:
        index = _read_config(folder, name) or {}
        shards = index.get("weight_map")
        missing = sorted({str(shard) for shard in shards.values()} - set(weights)) if isinstance(shards, dict) else ["weight_map"]
        if missing:
            raise ModelError("MODEL_FORMAT", f"{name} names {missing[0]}, which is not in the folder", missing[0])
    return weights + indexes


def _refuse_partial_weights(path: Path) -> None:
    """A half-downloaded file or a Git LFS pointer would otherwise get a fingerprint of its own."""
    with path.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8).ljust(8, b"\xff"), "little")
    if header_bytes + 8 > path.stat().st_size:
        raise ModelError("MODEL_FORMAT", f"{path.name} is cut short or is not safetensors; download it again", path.name)


def _hash_file(folder: Path, name: str) -> tuple[str, str, int]:
    digest = hashlib.sha256()
    size = 0
    with (folder / name).open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return name, digest.hexdigest(), size
