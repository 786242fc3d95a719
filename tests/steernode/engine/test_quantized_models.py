"""Quantised folders that are read: written as their own tools write them, loaded as any other, and steered."""

import json
from dataclasses import replace
from importlib.util import find_spec
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file

from steernode.engine.access import models
from steernode.engine.access.models import load_model
from steernode.engine.applying.generate import generate
from steernode.engine.judging.runs import describe_run
from steernode.errors import ModelError
from steernode.files.forms import Form
from steernode.records.decoding import GREEDY_DECODING
from steernode.records.evidence import read_evidence
from tests.support.tiny_models import ask, build_model, build_tokenizer

SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
BLOCK = 64


@pytest.fixture
def plain(tmp_path):
    folder = tmp_path / "plain"
    build_model("llama", **SIZES).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def state_quantization(folder, stated):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": stated}))


def read_logits(loaded, rows):
    with torch.inference_mode():
        return loaded.model(input_ids=torch.tensor(rows)).logits


def test_fp8_is_dequantised_to_what_its_numbers_mean(plain):
    if find_spec("accelerate") is None:
        pytest.skip("accelerate is not installed")
    packed, meant = {}, {}
    for name, weight in load_file(plain / "model.safetensors").items():
        packed[name] = meant[name] = weight
        if "proj" in name:
            rows, columns = weight.shape
            blocks = weight.view(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
            scale = blocks.abs().amax((1, 3), keepdim=True) / 448
            packed[name] = (blocks / scale).view(rows, columns).to(torch.float8_e4m3fn)
            packed[f"{name}_scale_inv"] = scale[:, 0, :, 0].contiguous()
            meant[name] = (packed[name].float().view_as(blocks) * scale).view(rows, columns)
    save_file(packed, plain / "model.safetensors", metadata={"format": "pt"})
    state_quantization(plain, {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]})
    loaded = load_model(plain)
    assert loaded.manifest.quantization == "fp8 64×64, dequantised"
    weights = loaded.model.state_dict()
    assert all(weights[name].dtype == torch.float32 for name in weights)
    assert all(torch.equal(weights[name], weight) for name, weight in meant.items())


@pytest.mark.parametrize("bits", [4, 8])
def test_bitsandbytes_is_loaded_and_no_row_changes_another(plain, tmp_path, bits):
    if find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    stated = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8, llm_int8_threshold=0.0)
    folder = tmp_path / "quantized"
    AutoModelForCausalLM.from_pretrained(plain, quantization_config=stated).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    loaded = load_model(folder)
    assert loaded.manifest.quantization.startswith(f"bitsandbytes {bits}-bit")
    row, others = [3, 10, 17, 24], ([31, 38, 45, 52], [1, 1, 1, 1])
    first, second = (read_logits(loaded, [row, other])[0] for other in others)
    assert torch.equal(first, second)
    [reply] = generate(loaded, [ask("Where is it?")], max_new_tokens=4)
    assert reply.scored_token_ids


@pytest.mark.parametrize("preset", ["W8A16", "W4A16", "FP8_DYNAMIC", "W8A8"])
def test_compressed_tensors_are_loaded(plain, tmp_path, preset):
    if find_spec("compressed_tensors") is None:
        pytest.skip("compressed-tensors is not installed")
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(plain)
    apply_quantization_config(model, QuantizationConfig(config_groups={preset: ["Linear"]}, ignore=["lm_head"]))
    half_a_step = {}
    for name, module in model.named_modules():
        if hasattr(module, "weight_scale"):
            stated, weight = module.quantization_scheme.weights, module.weight.data
            groups = weight.view(len(weight), module.weight_scale.shape[-1], -1)
            is_float = stated.type == "float"
            scale = groups.abs().amax(-1) / (448 if is_float else 2 ** (stated.num_bits - 1) - 1)
            module.weight_scale.data = scale.to(module.weight_scale.dtype).reshape(module.weight_scale.shape)
            # Of a number of 8 bits with 3 in its fraction, and of an integer.
            step = (groups.abs() / 8).maximum(scale[..., None] / 512) if is_float else scale[..., None].expand_as(groups)
            half_a_step[f"{name}.weight"] = (step / 2).reshape(weight.shape)
    plain_weights = load_file(plain / "model.safetensors")
    compressor = ModelCompressor.from_pretrained_model(model, quantization_format=None)
    compressor.compress_model(model)
    folder = tmp_path / "quantized"
    model.save_pretrained(folder)
    compressor.update_config(str(folder))
    build_tokenizer().save_pretrained(folder)
    loaded = load_model(folder)
    assert loaded.manifest.quantization.startswith("compressed-tensors ")
    weights = loaded.model.state_dict()
    assert len(half_a_step) == 14
    for name, bound in half_a_step.items():
        assert ((weights[name] - plain_weights[name]).abs() <= bound * (1 + 1e-3)).all(), name
        assert not torch.equal(weights[name], plain_weights[name])


@pytest.mark.parametrize("fault", [ImportError("no kernel"), TypeError("no such option"), AttributeError("None"), AssertionError()])
def test_whatever_fails_while_a_folder_is_loaded_is_its_own_fault_at_once(plain, monkeypatch, fault):
    def refuse(_config):
        raise fault

    monkeypatch.setattr(models, "find_architecture", refuse)
    with pytest.raises(ModelError) as caught:
        load_model(plain)
    assert caught.value.code == "MODEL_LOAD"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (MemoryError(), "MODEL_TOO_LARGE"),
        (torch.OutOfMemoryError("full"), "MODEL_TOO_LARGE"),
        (ModelError("MODEL_ARCHITECTURE", "none"), "MODEL_ARCHITECTURE"),
    ],
)
def test_a_fault_of_the_machine_and_one_that_is_named_already_have_codes_of_their_own(plain, monkeypatch, fault, code):
    def refuse(_config):
        raise fault

    monkeypatch.setattr(models, "find_architecture", refuse)
    with pytest.raises(ModelError) as refused:
        load_model(plain)
    assert refused.value.code == code


def test_evidence_names_the_form_that_was_measured(llama):
    class Scorer:
        description: ClassVar = {"name": "none"}

    made_from = Form("dequantised", "gguf", "harbor.gguf", "ab" * 32, 9, {"Q4_1": 2}, "float32", "steernode", "1", {"gguf": "1"})
    manifest = replace(llama.manifest, quantization="bitsandbytes 4-bit nf4", made_from=made_from)
    run = describe_run(replace(llama, manifest=manifest, name="harbor-small"), {}, Scorer(), 4, GREEDY_DECODING)
    assert run["form"] == "dequantised to float32 from harbor.gguf (abababababab; Q4_1 × 2), bitsandbytes 4-bit nf4"
    assert run["measured_form"] == {
        "name": "harbor-small",
        "dtype": "float32",
        "quantization": "bitsandbytes 4-bit nf4",
        "made_from": made_from.to_document(),
    }
    assert read_evidence({"run": run}).measured_form == f"harbor-small, weights in float32, {run['form']}"
    published = describe_run(llama, {}, Scorer(), 4, GREEDY_DECODING)
    assert ("form" in published, published["measured_form"]) == (False, {"dtype": "float32"})
    assert read_evidence({}).measured_form == ""
