"""GGUF files: what one holds, read without torch. They are no base models themselves: `steer model convert` makes one of them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steernode.errors import ModelError

SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_CHUNK_BYTES = 4 * 1024 * 1024
_TOKENS, _CHAT_TEMPLATE = "tokenizer.ggml.tokens", "tokenizer.chat_template"


@dataclass(frozen=True, slots=True)
class GgufFile:
    """`settings` are those of the architecture, by their names without its own; `tensors` the number of values in each."""

    path: Path
    architecture: str
    settings: Mapping[str, Any]
    tensor_types: Mapping[str, int]
    tensors: Mapping[str, int]

    @property
    def elements(self) -> int:
        return sum(self.tensors.values())


def only_gguf(folder: Path) -> str | None:
    """The sentence that says what to do with a folder whose weights are in GGUF files; None if there are none."""
    names = sorted(path.name for path in folder.glob(f"*{SUFFIX}"))
    if not names:
        return None
    several = f"one of its {len(names)} files, such as " if len(names) > 1 else ""
    return (
        f"{folder} holds its weights as GGUF, which is for another engine; make a folder of {several}{names[0]}: "
        f"steer model convert {folder / names[0]} {folder}-dequantised"
    )


def read_gguf(path: Path) -> GgufFile:
    """Reads all but the tensors, and that each of them is there, of a type that can be dequantised.

    Raises: ModelError MODEL_MISSING, MODEL_FORMAT, MODEL_QUANTIZATION, MODEL_ARCHITECTURE, MODEL_TOKENIZER, MODEL_CHAT_TEMPLATE,
    PACKAGE_MISSING.
    """
    if not path.is_file():
        raise ModelError("MODEL_MISSING", f"{path} is not a file; give one GGUF file", str(path))
    with path.open("rb") as stream:
        if stream.read(4) != _MAGIC:
            raise ModelError("MODEL_FORMAT", f"{path.name} does not begin as a GGUF file does", path.name)
    try:
        import gguf
    except ImportError as error:
        raise ModelError("PACKAGE_MISSING", "GGUF files are read by a package that is not here: pip install gguf", "gguf") from error
    try:
        reader = _open(gguf, path)
        values = {name: field.contents() for name, field in reader.fields.items() if name not in (_TOKENS, "tokenizer.ggml.merges")}
    except Exception as error:  # It checks nothing: whatever a broken file makes it do wrong ends here.
        if "GGMLQuantizationType" in str(error):
            raise ModelError("MODEL_QUANTIZATION", f"{path.name} holds tensors of a type that is not known: {error}", path.name) from error
        problem = f"{path.name} is cut short or broken ({type(error).__name__}: {error}); get it again"
        raise ModelError("MODEL_FORMAT", problem, path.name) from error
    if _PART.search(path.name) or values.get("split.count", 0) not in (0, 1):
        raise ModelError("MODEL_FORMAT", f"{path.name} is a part of a split model; merge it first: llama-gguf-split --merge", path.name)
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str):
        raise ModelError("MODEL_ARCHITECTURE", f"{path.name} does not say of what architecture it is", path.name)
    if not reader.tensors:
        raise ModelError("MODEL_FORMAT", f"{path.name} holds no tensors", path.name)
    for kind in sorted({tensor.tensor_type for tensor in reader.tensors}):
        _check_type(gguf, kind, path)
    if _TOKENS not in reader.fields:
        raise ModelError("MODEL_TOKENIZER", f"{path.name} holds no tokenizer ({_TOKENS})", _TOKENS)
    if not isinstance(values.get(_CHAT_TEMPLATE), str) or not values[_CHAT_TEMPLATE].strip():
        raise ModelError(
            "MODEL_CHAT_TEMPLATE",
            f"{path.name} holds no {_CHAT_TEMPLATE}, and a conversation has no other agreed text form; write one into a copy: "
            f"gguf-new-metadata --chat-template-file TEMPLATE.jinja {path.name} COPY.gguf",
            _CHAT_TEMPLATE,
        )
    begin = f"{architecture}."
    return GgufFile(
        path=path,
        architecture=architecture,
        settings={name.removeprefix(begin): value for name, value in values.items() if name.startswith(begin)},
        tensor_types=dict(sorted(Counter(tensor.tensor_type.name for tensor in reader.tensors).items())),
        tensors={tensor.name: int(tensor.n_elements) for tensor in reader.tensors},
    )


def _open(gguf: Any, path: Path) -> Any:
    """Where the package reads past the end of a file it finds nothing there, and goes on for as long as a length in the file says."""

    class Reader(gguf.GGUFReader):  # type: ignore[misc]  # the package is imported where it is needed
        def _get(self, offset: int, dtype: Any, count: int = 1, *more: Any, **named: Any) -> Any:
            end = int(offset) + np.dtype(dtype).itemsize * int(count)
            if end > len(self.data):
                raise EOFError(f"it speaks of byte {end} and ends at {len(self.data)}")
            return super()._get(offset, dtype, count, *more, **named)

    return Reader(path)


def hash_gguf(path: Path, on_progress: Callable[[int, int], None]) -> tuple[str, int]:
    """The sha256 of a file and its size."""
    digest, size, whole = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            on_progress(size, whole)
    return digest.hexdigest(), size


def _check_type(gguf: Any, kind: Any, path: Path) -> None:
    """One block of nothing is dequantised: the package tells in no other way what it can."""
    _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    dtype = {"F32": np.float32, "F16": np.float16}.get(kind.name, np.uint8)
    try:
        with np.errstate(all="ignore"):
            gguf.dequantize(np.zeros((1, block_bytes if dtype is np.uint8 else 1), dtype), kind)
    except (NotImplementedError, ValueError) as error:
        raise ModelError(
            "MODEL_QUANTIZATION", f"{path.name} holds tensors of type {kind.name}, which nothing here reads", kind.name
        ) from error
