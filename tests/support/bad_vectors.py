"""Vector files that the strict reader refuses, each with its exact code: rows B1 to B26 of the bad-input table."""

import io
import json
import math
import pickle
import zipfile

import numpy as np

from steernode.canonical import canonical_json
from steernode.files.vectors import write_vector

LINEAGE = {
    "schema": "steerhub.vector/1",
    "base_model_fingerprint": "ab" * 32,
    "layer": 6,
    "site": "resid_post",
    "method": "mean_difference",
    "read_position": "last_prompt_token",
    "contrast_set_digest": "cd" * 32,
    "norm": "41.2",
    "mean_residual_norm": "180.1",
    "engine_version": "0.1.0",
    "seed": 7,
    "pairs": 800,
}
METADATA = {"steerhub": canonical_json(LINEAGE).decode()}


def unit_vector(size: int = 64) -> np.ndarray:
    values = np.random.default_rng(3).normal(size=size)
    return (values / np.linalg.norm(values)).astype(np.float32)


DIRECTION = unit_vector()
GOOD = write_vector(DIRECTION, LINEAGE)
PAYLOAD = DIRECTION.tobytes()


def framed(header: bytes, payload: bytes = PAYLOAD) -> bytes:
    return len(header).to_bytes(8, "little") + header + payload


def with_tensor(payload: bytes = PAYLOAD, name: str = "direction", **changes: object) -> bytes:
    tensor = {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]} | changes
    return framed(json.dumps({"__metadata__": METADATA, name: tensor}).encode(), payload)


def with_values(values: list[float]) -> bytes:
    payload = np.array(values, "<f4").tobytes()
    return with_tensor(payload, shape=[len(values)], data_offsets=[0, len(payload)])


def zip_bytes() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return stream.getvalue()


def npz_bytes() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, direction=DIRECTION)
    return stream.getvalue()


TENSOR_TEXT = '{"dtype":"F32","shape":[64],"data_offsets":[0,256]}'
METADATA_TEXT = json.dumps(METADATA)
INNER_DUPLICATE = json.dumps({"steerhub": canonical_json(LINEAGE).decode().replace('"seed":7', '"seed":7,"seed":8')})
BAD_FILES = {
    "B1 empty": (b"", "VEC_TRUNCATED"),
    "B1 seven bytes": (b"\x00" * 7, "VEC_TRUNCATED"),
    "B2 header longer than the file": ((5000).to_bytes(8, "little") + b"{}", "VEC_TRUNCATED"),
    "B3 header of 2^63": ((2**63).to_bytes(8, "little") + b"{}", "VEC_HEADER_TOO_LARGE"),
    "B3 header of 100,000,001": ((100_000_001).to_bytes(8, "little") + b"{}", "VEC_HEADER_TOO_LARGE"),
    "B4 header is not UTF-8": (framed(b'{"\xff":1}'), "VEC_HEADER"),
    "B4 lone surrogate": (framed(b'{"\\ud800":1}'), "VEC_HEADER"),
    "B5 header is not JSON": (framed(b"{nonsense}"), "VEC_HEADER"),
    "B5 header is an array": (framed(b"[]"), "VEC_HEADER"),
    "B6 leading whitespace": (framed(b" " + GOOD[8 : 8 + int.from_bytes(GOOD[:8], "little")]), "VEC_HEADER"),
    "B7 deep nesting": (framed(b'{"a":' + b"[" * 60_000), "VEC_HEADER"),
    "B7 deep nesting, closed": (framed(b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}"), "VEC_HEADER"),
    "B8 trailing bytes": (GOOD + b"\x00", "VEC_LAYOUT"),
    "B8 short data": (GOOD[:-1], "VEC_LAYOUT"),
    "B9 hole": (with_tensor(PAYLOAD + b"\x00" * 4, data_offsets=[4, 260]), "VEC_LAYOUT"),
    "B9 end before begin": (with_tensor(data_offsets=[256, 0]), "VEC_LAYOUT"),
    "B9 overlap": (framed(f'{{"direction":{TENSOR_TEXT},"other":{TENSOR_TEXT}}}'.encode()), "VEC_LAYOUT"),
    "B10 negative offset": (with_tensor(data_offsets=[-1, 255]), "VEC_HEADER"),
    "B10 negative dimension": (with_tensor(shape=[-64]), "VEC_HEADER"),
    "B10 boolean dimension": (with_tensor(shape=[True]), "VEC_HEADER"),
    "B10 float dimension": (with_tensor(shape=[64.0]), "VEC_HEADER"),
    "B11 shape and bytes disagree": (with_tensor(shape=[63]), "VEC_LAYOUT"),
    "B11 dtype and bytes disagree": (with_tensor(dtype="F16"), "VEC_LAYOUT"),
    "B12 shape overflow": (with_tensor(shape=[2**40, 2**40]), "VEC_LAYOUT"),
    "B13 unknown dtype": (with_tensor(dtype="F33"), "VEC_DTYPE"),
    "B13 dtype of integers": (with_tensor(dtype="I32"), "VEC_DTYPE"),
    "B13 dtype F64": (with_tensor(dtype="F64", shape=[32]), "VEC_DTYPE"),
    "B14 metadata number": (framed(f'{{"__metadata__":{{"steerhub":1}},"direction":{TENSOR_TEXT}}}'.encode()), "VEC_METADATA"),
    "B14 metadata nested": (framed(f'{{"__metadata__":{{"steerhub":{{}}}},"direction":{TENSOR_TEXT}}}'.encode()), "VEC_METADATA"),
    "B14 metadata absent": (framed(f'{{"direction":{TENSOR_TEXT}}}'.encode()), "VEC_METADATA"),
    "B14 metadata of others": (framed(f'{{"__metadata__":{{"format":"pt"}},"direction":{TENSOR_TEXT}}}'.encode()), "VEC_METADATA"),
    "B15 duplicate metadata key": (
        framed(f'{{"__metadata__":{{"steerhub":"{{}}","steerhub":"{{}}"}},"direction":{TENSOR_TEXT}}}'.encode()),
        "VEC_DUPLICATE_KEY",
    ),
    "B15 duplicate lineage key": (framed(f'{{"__metadata__":{INNER_DUPLICATE},"direction":{TENSOR_TEXT}}}'.encode()), "VEC_DUPLICATE_KEY"),
    "B16 duplicate tensor": (framed(f'{{"direction":{TENSOR_TEXT},"direction":{TENSOR_TEXT}}}'.encode()), "VEC_DUPLICATE_KEY"),
    "B17 two metadata": (
        framed(f'{{"__metadata__":{METADATA_TEXT},"__metadata__":{METADATA_TEXT},"direction":{TENSOR_TEXT}}}'.encode()),
        "VEC_DUPLICATE_KEY",
    ),
    "B18 not a number": (with_values([math.nan, 1.0]), "VEC_NON_FINITE"),
    "B18 infinite": (with_values([math.inf, 1.0]), "VEC_NON_FINITE"),
    "B18 minus infinite": (with_values([-math.inf, 1.0]), "VEC_NON_FINITE"),
    "B18 subnormal only": (with_values([1e-40, 1e-41]), "VEC_NON_FINITE"),
    "B19 zero vector": (with_values([0.0, 0.0]), "VEC_NORM"),
    "B19 norm above the bound": (with_values([30.0, 40.0]), "VEC_NORM"),
    "B19 norm below the bound": (with_values([0.3, 0.4]), "VEC_NORM"),
    "B20 no tensor": (framed(json.dumps({"__metadata__": METADATA}).encode(), b""), "VEC_SHAPE"),
    "B20 empty tensor": (with_tensor(b"", shape=[0], data_offsets=[0, 0]), "VEC_SHAPE"),
    "B20 scalar": (with_tensor(PAYLOAD[:4], shape=[], data_offsets=[0, 4]), "VEC_SHAPE"),
    "B20 two dimensions": (with_tensor(shape=[8, 8]), "VEC_SHAPE"),
    "B22 path as a name": (with_tensor(name="../../x"), "VEC_NAME"),
    "B22 NUL in a name": (with_tensor(name="direction\x00"), "VEC_NAME"),
    "B22 right-to-left name": (with_tensor(name="\u202enoitcerid"), "VEC_NAME"),
    "B22 name of 10 kB": (with_tensor(name="d" * 10_000), "VEC_NAME"),
    "B23 extra field": (with_tensor(extra=1), "VEC_HEADER"),
    "B25 shape of 30,000 dimensions": (with_tensor(PAYLOAD[:4], shape=json.loads("[" + "1," * 29_999 + "1]")), "VEC_HEADER_TOO_LARGE"),
    "B25 shape of 20,000 dimensions": (with_tensor(PAYLOAD[:4], shape=[1] * 20_000, data_offsets=[0, 4]), "VEC_SHAPE"),
    "B26 pickle": (pickle.dumps({"direction": [1.0]}), "VEC_FORMAT"),
    "B26 zip": (zip_bytes(), "VEC_FORMAT"),
    "B26 npz": (npz_bytes(), "VEC_FORMAT"),
    "B26 GGUF": (b"GGUF\x03\x00\x00\x00" + b"\x00" * 64, "VEC_FORMAT"),
}
