"""Rows B1 to B26 of the bad-input table, each by its exact code, and the bytes we write."""

import io
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from steernode.canonical import sha256_hex
from steernode.errors import VectorFileError
from steernode.files import vectors
from steernode.files.vectors import MAX_HEADER_BYTES, read_vector, write_vector
from tests.support.bad_vectors import BAD_FILES, DIRECTION, GOOD, LINEAGE, METADATA, framed


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


def test_b24_a_header_of_13_megabytes_is_refused_before_it_is_parsed(monkeypatch):
    tensors = ",".join(f'"{number:06}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for number in range(200_000))
    data = framed(b"{" + tensors.encode() + b"}", b"")
    assert len(data) > 10_000_000
    monkeypatch.setattr(vectors, "parse_strict", lambda *_args, **_options: pytest.fail("it was parsed"))
    with pytest.raises(VectorFileError) as caught:
        read_vector(data)
    assert caught.value.code == "VEC_HEADER_TOO_LARGE"


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


def test_a_file_is_read_whatever_the_length_of_its_header_looks_like():
    files = [write_vector(DIRECTION, LINEAGE | {"engine_version": "1" * length}) for length in range(1, 320)]
    assert any(data.startswith(b"\x80\x02") for data in files)
    for data in files:
        assert read_vector(data).digest == sha256_hex(data)


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


def test_a_lineage_may_name_the_architecture_it_was_read_by():
    named = LINEAGE | {"architecture_digest": "ab" * 32}
    assert read_vector(write_vector(DIRECTION, named)).lineage == named
    with pytest.raises(VectorFileError) as caught:
        write_vector(DIRECTION, LINEAGE | {"architecture_digest": "ab"})
    assert (caught.value.code, caught.value.item) == ("VEC_METADATA", "architecture_digest")


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
