"""The steering vector file: safetensors with one tensor, read by a parser of our own before any library sees it.

The safetensors library accepts duplicate keys, odd tensor names, values that are not finite and headers of a hundred
megabytes. A vector goes into every forward pass of a customer's model, so a file here holds one tensor named `direction`,
one text of metadata named `steerhub`, and nothing that two readers might understand differently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steernode.canonical import canonical_json, parse_strict, sha256_hex
from steernode.errors import CanonicalError, FieldError, VectorFileError
from steernode.strict import read_digest, read_measure, read_template_arguments, refused_as
from steernode.words import SITES

SCHEMA = "steerhub.vector/1"
MAX_HEADER_BYTES = 64 * 1024
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_D_MODEL = 1_000_000
# A stored direction is a unit vector, because a coefficient means activation units only then. Half precision leaves it a little off.
MIN_NORM = 0.99
DEFAULT_MAX_NORM = 1.01
_DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_TENSOR = "direction"
_METADATA = "steerhub"
_TENSOR_FIELDS = {"dtype", "shape", "data_offsets"}
# How the files begin that people upload by mistake, or to see what happens.
_FOREIGN_MAGIC = (
    (b"PK\x03\x04", "a zip archive (npz and current torch files are zips)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"GGUF", "a GGUF file"),
    (b"\x93NUMPY", "an npy file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1f\x8b", "a gzip file"),
    # Pickle protocols 2 to 5 open with PROTO; older torch files are pickles.
    *((bytes((0x80, protocol)), "a pickle, which can run code when it is opened") for protocol in range(2, 6)),
)
_LINEAGE_TEXTS = (
    "base_model_fingerprint",
    "site",
    "method",
    "read_position",
    "contrast_set_digest",
    "norm",
    "mean_residual_norm",
    "engine_version",
)
_LINEAGE_MEASURES = ("norm", "mean_residual_norm")
_LINEAGE_INTEGERS = ("layer", "seed", "pairs")
# What came after there were vectors: older ones do not have it.
_LATER_DIGESTS = ("architecture_digest",)
_LATER_TEXTS = ("model_dtype", "device_name", "kernels", "attention")
LINEAGE_FIELDS = ("schema", *_LINEAGE_TEXTS, *_LINEAGE_INTEGERS)
# What the chat template was given, where it was given anything: files from before it could be read as they did.
TEMPLATE_ARGUMENTS = "template_arguments"

Lineage = dict[str, Any]


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A direction and where it came from. `direction` is float32, (d_model,), read-only; `digest` is the file's sha256."""

    direction: NDArray[np.float32]
    dtype: str
    lineage: Lineage
    digest: str

    @property
    def template_arguments(self) -> dict[str, str | int | bool]:
        """What the chat template was given beside the messages when the activations were read."""
        return dict(self.lineage.get(TEMPLATE_ARGUMENTS, {}))


def write_vector(direction: NDArray[Any], lineage: Mapping[str, Any], dtype: str = "F32") -> bytes:
    """The bytes of a vector file: the same direction, lineage and dtype always give the same bytes.

    Shapes: direction is (d_model,), the unit vector.
    Raises: VectorFileError with the code that reading the result would give.
    """
    if dtype not in _DTYPE_BYTES:
        raise VectorFileError("VEC_DTYPE", f"dtype {dtype!r} cannot be stored; choose one of {', '.join(_DTYPE_BYTES)}", dtype)
    if direction.ndim != 1 or not 0 < direction.size <= MAX_D_MODEL:
        raise VectorFileError("VEC_SHAPE", f"a direction has the shape (d_model,), got {direction.shape}", str(direction.shape))
    values = np.ascontiguousarray(direction, dtype="<f4")
    _check_values(values, DEFAULT_MAX_NORM)
    metadata = canonical_json(_check_lineage(dict(lineage)))
    payload = _encode(values, dtype)
    _check_values(_decode(payload, dtype), DEFAULT_MAX_NORM)
    header = canonical_json(
        {
            "__metadata__": {_METADATA: metadata.decode("utf-8")},
            _TENSOR: {"dtype": dtype, "shape": [int(values.size)], "data_offsets": [0, len(payload)]},
        }
    )
    # safetensors aligns the data to 8 bytes by padding the header with spaces.
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER_BYTES:
        raise VectorFileError("VEC_HEADER_TOO_LARGE", f"the lineage needs a header of {len(header)} bytes, at most {MAX_HEADER_BYTES} fit")
    return len(header).to_bytes(8, "little") + header + payload


def read_vector(data: bytes, *, d_model: int | None = None, max_norm: float = DEFAULT_MAX_NORM) -> VectorFile:
    """The vector in these bytes. Refuses before allocating: no size is taken from the file's word alone.

    Raises: VectorFileError; the code says which rule was broken.
    """
    header, payload = _split(data)
    metadata = header.pop("__metadata__", None)
    _check_tensors(header)
    _check_layout(header, len(payload))
    dtype, size = _check_direction(header)
    if d_model is not None and size != d_model:
        raise VectorFileError("VEC_DIM_MISMATCH", f"the direction has {size} values, the model's hidden size is {d_model}", str(size))
    direction = _decode(payload, dtype)
    _check_values(direction, max_norm)
    direction.flags.writeable = False
    return VectorFile(direction, dtype, _parse_lineage(_check_metadata(metadata)), sha256_hex(data))


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    header_bytes = int.from_bytes(data[:8], "little")
    # A header of 640 bytes begins as a pickle does: what is followed by a header that fits is none.
    if header_bytes > len(data) - 8 or data[8:9] != b"{":
        for magic, name in _FOREIGN_MAGIC:
            if data.startswith(magic):
                raise VectorFileError("VEC_FORMAT", f"this is {name}; a steering vector is a safetensors file")
    if len(data) < 8:
        raise VectorFileError("VEC_TRUNCATED", f"{len(data)} bytes are too few for a safetensors file")
    if header_bytes > MAX_HEADER_BYTES:
        raise VectorFileError(
            "VEC_HEADER_TOO_LARGE", f"the header claims {header_bytes} bytes, at most {MAX_HEADER_BYTES} are read", str(header_bytes)
        )
    if header_bytes > len(data) - 8:
        raise VectorFileError("VEC_TRUNCATED", f"the header claims {header_bytes} bytes, the file has {len(data) - 8} left")
    if len(data) > MAX_FILE_BYTES:
        raise VectorFileError("VEC_LAYOUT", f"{len(data)} bytes, a vector file has at most {MAX_FILE_BYTES}", str(len(data)))
    raw = data[8 : 8 + header_bytes]
    if not raw.startswith(b"{"):
        raise VectorFileError("VEC_HEADER", "the header does not start with '{'")
    try:
        # Deep enough for the real header, and for a wrong shape to be named as such.
        header = parse_strict(raw, max_bytes=MAX_HEADER_BYTES, max_depth=4)
    except CanonicalError as error:
        code = "VEC_DUPLICATE_KEY" if error.code == "JSON_DUPLICATE_KEY" else "VEC_HEADER"
        raise VectorFileError(code, f"header: {error.message}", error.item) from error
    return header, data[8 + header_bytes :]


def _check_metadata(metadata: Any) -> str:
    if not isinstance(metadata, dict) or set(metadata) != {_METADATA} or not isinstance(metadata[_METADATA], str):
        raise VectorFileError("VEC_METADATA", f"__metadata__ must hold one text, {_METADATA!r}, with the lineage")
    return str(metadata[_METADATA])


def _check_tensors(tensors: dict[str, Any]) -> None:
    for name, tensor in tensors.items():
        shown = ascii(name[:60])
        if not isinstance(tensor, dict) or set(tensor) != _TENSOR_FIELDS:
            raise VectorFileError("VEC_HEADER", f"tensor {shown} must have exactly the fields {', '.join(sorted(_TENSOR_FIELDS))}", shown)
        shape, offsets, dtype = tensor["shape"], tensor["data_offsets"], tensor["dtype"]
        if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
            raise VectorFileError("VEC_HEADER", f"shape and the two data_offsets of tensor {shown} must be integers from 0 up", shown)
        if not isinstance(dtype, str) or dtype not in _DTYPE_BYTES:
            raise VectorFileError("VEC_DTYPE", f"dtype {ascii(dtype)[:40]} is not one of {', '.join(_DTYPE_BYTES)}")
        if len(shape) > 16:
            raise VectorFileError("VEC_SHAPE", f"a direction has one dimension, tensor {shown} has {len(shape)}", str(len(shape)))


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values)


def _check_layout(tensors: dict[str, Any], payload_bytes: int) -> None:
    """Every byte of data belongs to exactly one tensor, and each tensor has the bytes its shape needs."""
    covered = 0
    for name, tensor in sorted(tensors.items(), key=lambda entry: entry[1]["data_offsets"]):
        begin, end = tensor["data_offsets"]
        if begin != covered or end - begin != math.prod(tensor["shape"]) * _DTYPE_BYTES[tensor["dtype"]]:
            shown = ascii(name[:60])
            raise VectorFileError(
                "VEC_LAYOUT", f"tensor {shown} has data_offsets {begin} to {end}, which its shape or its neighbour denies", shown
            )
        covered = end
    if tensors and covered != payload_bytes:
        raise VectorFileError(
            "VEC_LAYOUT", f"the header describes {covered} bytes of data, the file has {payload_bytes}", str(payload_bytes)
        )


def _check_direction(tensors: dict[str, Any]) -> tuple[str, int]:
    """The dtype and the number of values of the one tensor."""
    for name in tensors:
        if name != _TENSOR:
            shown = ascii(name[:60])
            raise VectorFileError("VEC_NAME", f"tensor {shown} is not {_TENSOR!r}, the only tensor a vector file holds", shown)
    if not tensors:
        raise VectorFileError("VEC_SHAPE", f"the file holds no tensor; it must hold one, named {_TENSOR!r}")
    shape: list[int] = tensors[_TENSOR]["shape"]
    if len(shape) != 1 or not 0 < shape[0] <= MAX_D_MODEL:
        raise VectorFileError("VEC_SHAPE", f"a direction has the shape (d_model,), got {shape}", str(shape))
    return tensors[_TENSOR]["dtype"], shape[0]


def _check_values(direction: NDArray[np.float32], max_norm: float) -> None:
    if not np.isfinite(direction).all():
        raise VectorFileError("VEC_NON_FINITE", "the direction holds a value that is not finite")
    largest = float(np.abs(direction).max())
    if 0 < largest < float(np.finfo(np.float32).tiny):
        # A GPU that flushes subnormals to zero would steer differently from one that does not.
        raise VectorFileError("VEC_NON_FINITE", "the direction holds only subnormal values")
    norm = float(np.linalg.norm(direction.astype(np.float64)))
    if not MIN_NORM <= norm <= max_norm:
        raise VectorFileError("VEC_NORM", f"the direction has norm {norm:.6g}, it must be from {MIN_NORM:g} to {max_norm:g}", f"{norm:.6g}")


def _encode(values: NDArray[np.float32], dtype: str) -> bytes:
    if dtype == "F32":
        return values.tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    # Round to nearest, ties to even: what every accelerator does when it casts to bfloat16.
    bits = values.view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def _decode(payload: bytes, dtype: str) -> NDArray[np.float32]:
    if dtype == "BF16":
        return (np.frombuffer(payload, "<u2").astype("<u4") << 16).view("<f4").astype(np.float32)
    return np.frombuffer(payload, "<f4" if dtype == "F32" else "<f2").astype(np.float32)


def _parse_lineage(text: str) -> Lineage:
    try:
        lineage = parse_strict(text.encode("utf-8"), max_bytes=MAX_HEADER_BYTES)
        is_canonical = isinstance(lineage, dict) and canonical_json(lineage) == text.encode("utf-8")
    except CanonicalError as error:
        code = "VEC_DUPLICATE_KEY" if error.code == "JSON_DUPLICATE_KEY" else "VEC_METADATA"
        raise VectorFileError(code, f"lineage: {error.message}", error.item) from error
    if not is_canonical:
        raise VectorFileError("VEC_METADATA", "the lineage is not a canonical JSON object; write the file with steernode")
    return _check_lineage(lineage)


def _check_lineage(lineage: Lineage) -> Lineage:
    if lineage.get("schema") != SCHEMA:
        raise VectorFileError("VEC_METADATA", f"lineage schema is {lineage.get('schema')!r}, this reader knows {SCHEMA!r}", "schema")
    if TEMPLATE_ARGUMENTS in lineage:
        with refused_as(VectorFileError, "VEC_METADATA"):
            if not read_template_arguments(lineage[TEMPLATE_ARGUMENTS], TEMPLATE_ARGUMENTS):
                raise FieldError(TEMPLATE_ARGUMENTS, "is empty; without arguments the field is left out")
    wrong = sorted((set(lineage) ^ set(LINEAGE_FIELDS)) - {*_LATER_DIGESTS, *_LATER_TEXTS, TEMPLATE_ARGUMENTS})
    if wrong:
        problem = "unknown" if wrong[0] in lineage else "missing"
        raise VectorFileError("VEC_METADATA", f"lineage field {wrong[0]!r} is {problem}", wrong[0])
    for field in (*_LINEAGE_TEXTS, *_LATER_TEXTS):
        if not isinstance(lineage.get(field, ""), str):
            raise VectorFileError("VEC_METADATA", f"lineage field {field!r} must be text", field)
    for field in _LATER_DIGESTS:
        try:
            read_digest(lineage.get(field, "0" * 64), field)
        except FieldError as error:
            raise VectorFileError("VEC_METADATA", f"lineage field {error.message}", field) from error
    for field in _LINEAGE_MEASURES:
        try:
            length = read_measure(lineage[field], field)
        except FieldError as error:
            raise VectorFileError("VEC_METADATA", f"lineage field {field!r} must be a plain decimal such as '41.2'", field) from error
        # A coefficient in units of a length of zero would mean nothing.
        if not length:
            raise VectorFileError("VEC_NORM", f"lineage field {field!r} is zero", field)
    if lineage["site"] not in SITES:
        raise VectorFileError("VEC_METADATA", f"lineage site {lineage['site']!r} is not one of {', '.join(SITES)}", "site")
    for field in _LINEAGE_INTEGERS:
        if isinstance(lineage[field], bool) or not isinstance(lineage[field], int) or lineage[field] < 0:
            raise VectorFileError("VEC_METADATA", f"lineage field {field!r} must be an integer from 0 up", field)
    return lineage
