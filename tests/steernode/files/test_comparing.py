"""Two forms of one model are told from two models, by what number formats leave of the same weights."""

import json

import gguf
import numpy as np
import pytest
from safetensors.numpy import save

from steernode.comparison import read_comparison
from steernode.errors import ModelError
from steernode.files.basemodels import inspect_model
from steernode.files.comparing import compare_folders
from steernode.files.forms import Form, write_form
from tests.support.files import write_model_folder

RANDOM = np.random.default_rng(5)
WEIGHTS = {
    "model.embed_tokens.weight": RANDOM.normal(0, 1, (128, 64)).astype(np.float32),
    "model.layers.0.mlp.up_proj.weight": RANDOM.normal(0, 0.02, (128, 256)).astype(np.float32),
    "model.norm.weight": RANDOM.normal(1, 0.1, (64,)).astype(np.float32),
}


def write(folder, weights, made_from=None, **config):
    write_model_folder(folder, **config)
    (folder / "model.safetensors").write_bytes(save(weights))
    if made_from is not None:
        write_form(folder, Form("dequantised", "gguf", "x.gguf", "ab" * 32, 9, made_from, "float32", "steernode", "1", {"gguf": "1"}))
    return folder


def write_bfloat16(folder, weights):
    """Rounded to nearest even, by hand: numpy has no such dtype."""
    packed, header, begin = b"", {}, 0
    for name, values in weights.items():
        bits = values.view(np.uint32).astype(np.uint64)
        data = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [begin, begin + len(data)]}
        packed, begin = packed + data, begin + len(data)
    write_model_folder(folder)
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + packed)
    return folder


def dequantized(kind):
    quantized = gguf.GGMLQuantizationType[kind]
    matrices = {name: gguf.dequantize(gguf.quantize(values, quantized), quantized) for name, values in WEIGHTS.items() if values.ndim == 2}
    return WEIGHTS | matrices


@pytest.fixture
def base(tmp_path):
    return write(tmp_path / "base", WEIGHTS)


def compare(base, other):
    comparison, tensors = compare_folders(base, other)
    assert (comparison.base, comparison.derived) == (inspect_model(base).fingerprint, inspect_model(other).fingerprint)
    assert read_comparison(json.loads(json.dumps(comparison.to_document())), "comparison") == comparison
    assert comparison.tensors == len(tensors)
    return comparison


def test_the_same_weights_in_other_files_are_equal(base, tmp_path):
    found = compare(base, write(tmp_path / "other", dict(reversed(WEIGHTS.items())), vocab_size=129))
    assert (found.verdict, found.worst, found.mean) == ("equal", 0, 0)


def test_another_dtype_of_the_same_weights_is_seen_both_ways(base, tmp_path):
    half = write(tmp_path / "half", {name: values.astype(np.float16) for name, values in WEIGHTS.items()})
    brain = write_bfloat16(tmp_path / "brain", WEIGHTS)
    for other in (half, brain):
        assert compare(base, other).verdict == compare(other, base).verdict == "another dtype"
    assert compare(base, half).mean < compare(base, brain).mean < 2**-8
    # Each is half a last place off the same weights, and the two are a whole one of the narrower from each other at most.
    assert compare(half, brain).verdict in ("another dtype", "different")


def test_what_is_off_by_more_than_half_a_last_place_is_another_model(base, tmp_path):
    other = {name: values.copy() for name, values in WEIGHTS.items()}
    other["model.norm.weight"][7] *= 1 + 2**-20
    found = compare(base, write(tmp_path / "other", other))
    assert (found.verdict, found.wrong) == ("different", "model.norm.weight")


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"])
def test_what_was_dequantised_is_within_the_steps_of_its_blocks(base, tmp_path, kind):
    found = compare(base, write(tmp_path / "other", dequantized(kind), made_from={kind: 2, "F32": 1}))
    assert found.verdict == "quantised"
    assert found.by_verdict == {"equal": 1, "quantised": 2}
    assert found.worst_tensor != "model.norm.weight"
    assert 0 < found.mean < 0.2


def test_what_was_quantised_finer_than_it_says_is_no_wonder_and_coarser_is(base, tmp_path):
    assert compare(base, write(tmp_path / "finer", dequantized("Q8_0"), made_from={"Q4_0": 2, "F32": 1})).verdict == "quantised"
    assert compare(base, write(tmp_path / "coarser", dequantized("Q4_0"), made_from={"Q8_0": 2, "F32": 1})).verdict == "different"


def test_weights_that_do_not_say_that_they_were_quantised_are_another_model(base, tmp_path):
    assert compare(base, write(tmp_path / "other", dequantized("Q4_1"))).verdict == "different"


@pytest.mark.parametrize("kind", ["Q4_0", "Q3_K", "Q2_K"])
def test_another_model_of_the_same_shapes_is_seen_behind_any_quantisation(base, tmp_path, kind):
    other = {name: np.random.default_rng(6).permuted(values, axis=None).reshape(values.shape) for name, values in WEIGHTS.items()}
    found = compare(base, write(tmp_path / "other", other, made_from={kind: 2, "F32": 1}))
    assert found.verdict == "different"


def test_tensors_of_other_names_or_shapes_are_named(base, tmp_path):
    less = {name: values for name, values in WEIGHTS.items() if "norm" not in name}
    assert compare(base, write(tmp_path / "less", less)).wrong == "model.norm.weight"
    turned = WEIGHTS | {"model.embed_tokens.weight": WEIGHTS["model.embed_tokens.weight"].reshape(64, 128)}
    assert compare(base, write(tmp_path / "turned", turned)).wrong == "model.embed_tokens.weight"
    assert compare(base, write(tmp_path / "none", {})).verdict == "different"


def test_a_head_that_is_the_embedding_again_makes_no_other_model(base, tmp_path):
    tied = write(tmp_path / "tied", WEIGHTS | {"lm_head.weight": WEIGHTS["model.embed_tokens.weight"]})
    assert compare(base, tied).verdict == "equal"
    untied = write(tmp_path / "untied", WEIGHTS | {"lm_head.weight": WEIGHTS["model.embed_tokens.weight"] + 1})
    assert compare(base, untied).wrong == "lm_head.weight"


def test_what_is_no_number_is_another_model(base, tmp_path):
    other = {name: values.copy() for name, values in WEIGHTS.items()}
    other["model.norm.weight"][0] = np.nan
    assert compare(base, write(tmp_path / "other", other)).verdict == "different"


def test_weights_that_are_packed_are_not_compared(base, tmp_path):
    other = write(tmp_path / "other", WEIGHTS | {"model.layers.0.attention.bias": np.zeros((1, 4), np.uint8)})
    with pytest.raises(ModelError) as caught:
        compare_folders(base, other)
    assert caught.value.code == "FORM_NOT_COMPARED"


def test_what_lies_beside_the_weights_that_are_loaded_vouches_for_nothing(base, tmp_path):
    """A loader takes model.safetensors, or else what the index names; a copy of other weights beside them is not the model."""
    another = WEIGHTS | {"model.norm.weight": WEIGHTS["model.norm.weight"] + 1}
    whole = write(tmp_path / "whole", another)
    (whole / "z.safetensors").write_bytes(save(WEIGHTS))
    assert compare(base, whole).wrong == "model.norm.weight"
    (whole / "z.safetensors").rename(whole / "a.safetensors")
    assert compare(base, whole).wrong == "model.norm.weight"
    index = {"weight_map": dict.fromkeys(WEIGHTS, "b.safetensors")}
    (whole / "model.safetensors").rename(whole / "b.safetensors")
    (whole / "model.safetensors.index.json").write_text(json.dumps(index))
    assert compare(base, whole).wrong == "model.norm.weight"
    (whole / "b.safetensors").write_bytes(save(WEIGHTS))
    (whole / "a.safetensors").write_bytes(save(another))
    assert compare(base, whole).verdict == "equal"


def test_a_tensor_in_two_of_the_files_that_are_loaded_is_refused(base, tmp_path):
    twice = write(tmp_path / "twice", WEIGHTS)
    (twice / "model.safetensors").rename(twice / "a.safetensors")
    (twice / "b.safetensors").write_bytes(save({"model.norm.weight": WEIGHTS["model.norm.weight"]}))
    index = {"weight_map": dict.fromkeys(WEIGHTS, "a.safetensors") | {"model.norm.weight": "b.safetensors"}}
    (twice / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"holds the tensor 'model\.norm\.weight', and so does a\.safetensors") as caught:
        compare_folders(base, twice)
    assert caught.value.code == "MODEL_FORMAT"
