"""Rows B1 to B26 of the bad-input table, each by its exact code, and the bytes we write."""

import io
import json
import math
import pickle
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from steernode.canonical import canonical_json, sha256_hex
from steernode.errors import VectorFileError
from steernode.files.vectors import MAX_HEADER_BYTES, read_vector, write_vector

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


@pytest.mark.parametrize("row", BAD_FILES)
def test_a_bad_file_is_refused_by_its_code(row):
    data, code = BAD_FILES[row]
    with pytest.raises(VectorFileError) as caught:
        read_vector(data)
    assert caught.value.code == code
    assert caught.value.message


def test_b21_a_direction_of_another_hidden_size_is_refused():
    with pytest.raises(VectorFileError) as caught:
        read_vector(GOOD, d_model=128)
    assert caught.value.code == "VEC_DIM_MISMATCH"


def test_b24_a_header_of_13_megabytes_is_refused_before_it_is_parsed():
    tensors = ",".join(f'"{number:06}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for number in range(200_000))
    data = framed(b"{" + tensors.encode() + b"}", b"")
    assert len(data) > 10_000_000
    started = time.perf_counter()
    with pytest.raises(VectorFileError) as caught:
        read_vector(data)
    assert caught.value.code == "VEC_HEADER_TOO_LARGE"
    assert time.perf_counter() - started < 0.05


def test_a_torch_file_is_refused_as_a_format():
    torch = pytest.importorskip("torch")
    stream = io.BytesIO()
    torch.save({"direction": torch.ones(4)}, stream)
    for data in (stream.getvalue(), pickle.dumps([1], protocol=2)):
        with pytest.raises(VectorFileError) as caught:
            read_vector(data)
        assert caught.value.code == "VEC_FORMAT"


def test_what_is_written_is_read_back():
    vector = read_vector(GOOD, d_model=64)
    assert np.array_equal(vector.direction, DIRECTION)
    assert vector.lineage == LINEAGE
    assert vector.dtype == "F32"
    assert vector.digest == sha256_hex(GOOD)
    assert not vector.direction.flags.writeable


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_the_same_vector_always_gives_the_same_bytes(dtype):
    shuffled = dict(reversed(LINEAGE.items()))
    assert write_vector(DIRECTION, LINEAGE, dtype) == write_vector(DIRECTION.astype(np.float64), shuffled, dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [("F16", 2**-11), ("BF16", 2**-8)])
def test_half_precision_rounds_to_the_nearest_value(dtype, tolerance):
    vector = read_vector(write_vector(DIRECTION, LINEAGE, dtype))
    assert vector.dtype == dtype
    assert np.all(np.abs(vector.direction - DIRECTION) <= np.abs(DIRECTION) * tolerance + 1e-7)


def test_bfloat16_bytes_are_those_torch_writes():
    torch = pytest.importorskip("torch")
    expected = torch.from_numpy(DIRECTION.copy()).to(torch.bfloat16).view(torch.int16).numpy().tobytes()
    assert write_vector(DIRECTION, LINEAGE, "BF16").endswith(expected)


def test_the_safetensors_library_reads_what_we_write():
    tensors = load(GOOD)
    assert list(tensors) == ["direction"]
    assert np.array_equal(tensors["direction"], DIRECTION)


def test_we_read_what_the_safetensors_library_writes():
    vector = read_vector(save({"direction": DIRECTION}, metadata=METADATA))
    assert np.array_equal(vector.direction, DIRECTION)
    assert vector.lineage == LINEAGE


@pytest.mark.parametrize(
    ("change", "item"),
    [
        ({"schema": "steerhub.vector/2"}, "schema"),
        ({"alpha": "1"}, "alpha"),
        ({"layer": "6"}, "layer"),
        ({"pairs": True}, "pairs"),
        ({"norm": "4e1"}, "norm"),
        ({"site": 3}, "site"),
    ],
)
def test_a_wrong_lineage_field_is_named(change, item):
    with pytest.raises(VectorFileError) as caught:
        write_vector(DIRECTION, LINEAGE | change)
    assert (caught.value.code, caught.value.item) == ("VEC_METADATA", item)


@pytest.mark.parametrize(
    ("change", "code"), [({"site": "logits"}, "VEC_METADATA"), ({"norm": "0"}, "VEC_NORM"), ({"norm": "0.0"}, "VEC_NORM")]
)
def test_a_lineage_that_no_engine_could_apply_is_refused(change, code):
    with pytest.raises(VectorFileError) as refusal:
        write_vector(DIRECTION, LINEAGE | change)
    assert refusal.value.code == code


def test_a_lineage_that_is_not_canonical_is_refused():
    spaced = {"steerhub": json.dumps(LINEAGE)}
    with pytest.raises(VectorFileError) as caught:
        read_vector(save({"direction": DIRECTION}, metadata=spaced))
    assert caught.value.code == "VEC_METADATA"


@pytest.mark.parametrize(
    ("direction", "code"),
    [
        (np.zeros(8), "VEC_NORM"),
        (np.full(8, 9.0), "VEC_NORM"),
        (np.full(8, np.nan), "VEC_NON_FINITE"),
        (np.ones((2, 4)), "VEC_SHAPE"),
        (np.ones(0), "VEC_SHAPE"),
    ],
)
def test_a_direction_nobody_could_read_is_not_written(direction, code):
    with pytest.raises(VectorFileError) as caught:
        write_vector(direction, LINEAGE)
    assert caught.value.code == code


def test_a_lineage_too_long_for_a_header_is_not_written():
    with pytest.raises(VectorFileError) as caught:
        write_vector(DIRECTION, LINEAGE | {"method": "m" * MAX_HEADER_BYTES})
    assert caught.value.code == "VEC_HEADER_TOO_LARGE"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_file_is_refused_or_known_by_another_digest(data):
    """No mutation raises anything but our error, yields an unsafe vector, or keeps the name of the original."""
    mutated = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(mutated) - 1))
        kind = data.draw(st.sampled_from(["flip", "delete", "insert"]))
        if kind == "flip":
            mutated[position] ^= data.draw(st.integers(1, 255))
        elif kind == "delete":
            del mutated[position]
        else:
            mutated.insert(position, data.draw(st.integers(0, 255)))
    try:
        vector = read_vector(bytes(mutated))
    except VectorFileError:
        return
    assert (vector.digest == sha256_hex(GOOD)) == (bytes(mutated) == GOOD)
    assert np.isfinite(vector.direction).all()
    assert vector.direction.shape == (64,)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused_with_a_code(data):
    with pytest.raises(VectorFileError):
        read_vector(data)
