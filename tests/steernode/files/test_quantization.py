import json

import numpy as np
import pytest
from safetensors.numpy import save

from steernode.errors import ModelError
from steernode.files import quantization
from steernode.files.basemodels import inspect_model

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 1,
    "hidden_size": 8,
    "max_position_embeddings": 512,
    "vocab_size": 16,
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return tmp_path


def write(folder, stated=None, tensors=None, **more):
    config = CONFIG | more | ({} if stated is None else {"quantization_config": stated})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(save(tensors or {"model.embed_tokens.weight": np.zeros((16, 8), np.float32)}))
    return folder


def refusal(folder):
    with pytest.raises(ModelError) as caught:
        inspect_model(folder)
    assert caught.value.code == "MODEL_QUANTIZATION"
    return caught.value


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda _name: None)


@pytest.fixture
def all_installed(monkeypatch):
    monkeypatch.setattr(quantization, "find_spec", lambda name: name)


READ = {
    "fp8": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8 128×128, dequantised"),
    "fp8 whole": ({"quant_method": "fp8"}, "fp8, dequantised"),
    "compressed-tensors": (
        {"quant_method": "compressed-tensors", "format": "pack-quantized"},
        "compressed-tensors pack-quantized, dequantised",
    ),
    "4 bit": ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bitsandbytes 4-bit nf4"),
    "8 bit": ({"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_threshold": 0.0}, "bitsandbytes 8-bit"),
    "8 bit, as it was written once": ({"load_in_8bit": True, "llm_int8_threshold": 0}, "bitsandbytes 8-bit"),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read_is_named_and_is_in_the_fingerprint(folder, all_installed, name):
    stated, said = READ[name]
    plain = inspect_model(write(folder))
    quantized = inspect_model(write(folder, stated))
    assert (plain.quantization, quantized.quantization) == ("", said)
    assert "quantization" not in plain.to_document()
    assert quantized.to_document()["quantization"] == said
    assert quantized.fingerprint != plain.fingerprint


@pytest.mark.parametrize("name", READ)
def test_a_missing_package_is_named_with_how_to_install_it(folder, nothing_installed, name):
    assert "pip install" in refusal(write(folder, READ[name][0])).message


@pytest.mark.parametrize("method", ["gptq", "awq", "mxfp4", "torchao", "hqq", "quanto", "aqlm", "modelopt"])
def test_a_method_that_was_never_tried_here_is_refused_by_name_whatever_is_installed(folder, all_installed, method):
    refused = refusal(write(folder, {"quant_method": method, "bits": 4}))
    assert refused.item == method
    assert "needs" in refused.message


def test_an_unknown_method_is_refused(folder, all_installed):
    refused = refusal(write(folder, {"quant_method": "super-squeeze"}))
    assert refused.item == "super-squeeze"
    assert "not known" in refused.message


WRONG = {
    "no method": {"bits": 4},
    "a method that is no text": {"quant_method": 4},
    "neither 4 nor 8 bit": {"quant_method": "bitsandbytes"},
    "both": {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": True},
    "rows of a batch change each other": {"quant_method": "bitsandbytes", "load_in_8bit": True},
}


@pytest.mark.parametrize("stated", WRONG.values(), ids=WRONG)
def test_a_config_that_cannot_be_meant_is_refused(folder, all_installed, stated):
    refusal(write(folder, stated))


def test_a_quantisation_inside_another_part_is_refused(folder, all_installed):
    refusal(write(folder, text_config={"quantization_config": {"quant_method": "fp8"}}))


def test_a_quantisation_that_is_no_object_is_refused(folder):
    with pytest.raises(ModelError) as caught:
        inspect_model(write(folder, ["fp8"]))
    assert caught.value.code == "MODEL_CONFIG_REJECTED"


def test_null_is_no_quantisation(folder):
    assert inspect_model(write(folder, quantization_config=None)).quantization == ""


@pytest.mark.parametrize(("name", "dtype"), [("q_proj.qweight", np.int32), ("q_proj.weight", np.uint8), ("q_proj.weight", np.int8)])
def test_packed_weights_that_no_config_explains_are_refused(folder, name, dtype):
    refused = refusal(write(folder, tensors={f"model.layers.0.self_attn.{name}": np.zeros((8, 8), dtype)}))
    assert refused.item.endswith(name)


def test_eight_bit_floats_that_no_config_explains_are_refused(folder):
    write(folder)
    header = json.dumps({"model.embed_tokens.weight": {"dtype": "F8_E4M3", "shape": [16, 8], "data_offsets": [0, 128]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(128))
    assert "F8_E4M3" in refusal(folder).message


@pytest.mark.parametrize(
    ("name", "dtype"), [("layers.0.attention.bias", np.uint8), ("embeddings.position_ids", np.int64), ("h.0.attn.causal_mask", np.bool_)]
)
def test_masks_and_tables_of_older_classes_are_no_packed_weights(folder, name, dtype):
    assert inspect_model(write(folder, tensors={name: np.zeros((1, 8), dtype)})).quantization == ""


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json", "hf_quant_config.json"])
def test_what_a_quantiser_wrote_beside_the_config_is_not_passed_over(folder, name):
    (write(folder) / name).write_text(json.dumps({"bits": 4}))
    assert refusal(folder).item == name
