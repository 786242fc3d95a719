"""Weight files: which there are, and that each is whole. Only headers are read here, by a reader of our own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steernode.canonical import parse_strict
from steernode.errors import CanonicalError, ModelError
from steernode.placement import Weights

# As the safetensors library has it.
_MAX_HEADER_BYTES = 100_000_000
# Of numbers that take the dtype that a model is loaded in; all others stay as they are.
_FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
# Where a loader looks first, and then.
WHOLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
_PICKLED_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def list_weights(folder: Path) -> list[str]:
    """The names of a folder's weight files, each of them whole. Raises: ModelError MODEL_FORMAT."""
    weights = sorted(path.name for path in folder.glob("*.safetensors"))
    for name in weights:
        # To open a pipe would wait for whoever writes into it.
        if not (folder / name).is_file():
            raise _broken(folder / name, "is no file, or a link that leads to none")
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
        _check_whole(folder / name)
    return weights


def list_loaded(folder: Path, weights: Iterable[str]) -> list[str]:
    """Those of a folder's weight files that a loader reads: one file that has them all, or else those that the index names.

    Whatever else lies beside them, such as the same weights as another program wants them, is in the fingerprint and is not the model.
    Raises: ModelError MODEL_FORMAT if a tensor is in two of them, because no two loaders agree on which of them counts.
    """
    loaded = _find_loaded(folder, sorted(weights))
    seen: dict[str, str] = {}
    for name in loaded:
        for tensor in _read_header(folder / name)[0]:
            if tensor in seen:
                raise _broken(folder / name, f"holds the tensor {tensor[:60]!r}, and so does {seen[tensor]}")
            seen[tensor] = name
    return loaded


def _find_loaded(folder: Path, names: list[str]) -> list[str]:
    if WHOLE_FILE in names:
        return [WHOLE_FILE]
    try:
        index = parse_strict((folder / INDEX_FILE).read_bytes(), max_bytes=_MAX_HEADER_BYTES, max_depth=4, wide_integers=True)
        named = {str(shard) for shard in index["weight_map"].values()}
    except (OSError, CanonicalError, KeyError, TypeError, AttributeError):
        # No loader would find them; which would be read is for it to say.
        return names
    return [name for name in names if name in named]


def _check_whole(path: Path) -> None:
    """A half-downloaded file, or a Git LFS pointer in its place, would otherwise get a fingerprint of its own.

    Every byte after the header belongs to exactly one tensor, so a tail that is missing shows without reading the tensors.
    """
    header, held = _read_header(path)
    covered = 0
    for begin, end, name in sorted((*_offsets(path, name, tensor), name) for name, tensor in header.items()):
        if begin != covered or end < begin:
            raise _broken(path, f"has a tensor {name[:60]!r} that does not begin where the one before ends")
        covered = end
    if covered != held:
        raise _broken(path, f"describes {covered} bytes of tensors and holds {held}")


def measure_weights(folder: Path, names: Iterable[str]) -> Weights:
    """How much the weights in these files of a folder are, by their headers alone. Raises: ModelError MODEL_FORMAT."""
    numbers = other_bytes = 0
    for tensor in read_tensors(folder, names):
        item_bytes = _FLOAT_BYTES.get(tensor.dtype)
        if item_bytes is None:
            other_bytes += tensor.end - tensor.begin
        else:
            numbers += (tensor.end - tensor.begin) // item_bytes
    return Weights(numbers, other_bytes)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """What the header of a weight file says of one tensor. `dtype` is safetensors' name, such as F32, I8 or F8_E4M3; it is in the
    file from `begin` to `end`, in bytes."""

    file: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_tensors(folder: Path, names: Iterable[str]) -> Iterator[StoredTensor]:
    """Every tensor in these files of a folder, by their headers alone. Raises: ModelError MODEL_FORMAT."""
    for file in names:
        header, held = _read_header(folder / file)
        first = (folder / file).stat().st_size - held
        for name, tensor in header.items():
            dtype, shape = tensor.get("dtype"), tensor.get("shape")
            if not isinstance(dtype, str) or not isinstance(shape, list) or any(type(size) is not int for size in shape):
                raise _broken(folder / file, f"does not say what tensor {name[:60]!r} is")
            begin, end = _offsets(folder / file, name, tensor)
            yield StoredTensor(file, name, dtype, tuple(shape), first + begin, first + end)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """What a file says of each tensor, and how many bytes of tensors it holds."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8).ljust(8, b"\xff"), "little")
        if header_bytes + 8 > size:
            raise _broken(path, "is cut short or is not safetensors")
        if header_bytes > _MAX_HEADER_BYTES:
            raise _broken(path, f"claims a header of {header_bytes} bytes, at most {_MAX_HEADER_BYTES} are read")
        raw = stream.read(header_bytes)
    try:
        header = parse_strict(raw, max_bytes=_MAX_HEADER_BYTES, max_depth=4)
    except CanonicalError as error:
        raise _broken(path, f"has a header that is not strict JSON ({error.message})") from error
    if not isinstance(header, dict):
        raise _broken(path, "has a header that is no object")
    header.pop("__metadata__", None)
    return header, size - 8 - header_bytes


def _offsets(path: Path, name: str, tensor: Any) -> tuple[int, int]:
    offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or any(type(offset) is not int for offset in offsets):
        raise _broken(path, f"does not say where tensor {name[:60]!r} is")
    return offsets[0], offsets[1]


def _broken(path: Path, problem: str) -> ModelError:
    return ModelError("MODEL_FORMAT", f"{path.name} {problem}; download it again", path.name)
