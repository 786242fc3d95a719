import json

import numpy as np
import pytest
from safetensors.numpy import save

from steernode.canonical import canonical_json, sha256_hex
from steernode.errors import ModelError
from steernode.files.basemodels import KNOWN_ARCHITECTURES, inspect_model

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 12,
    "hidden_size": 192,
    "max_position_embeddings": 512,
    "vocab_size": 1000,
    "torch_dtype": "float32",
    "rope_theta": 10000.0,
}


@pytest.fixture
def folder(tmp_path):
    def write(name, value):
        (tmp_path / name).write_text(json.dumps(value))

    write("config.json", CONFIG)
    write("generation_config.json", {"do_sample": False})
    write("tokenizer.json", {"version": "1.0"})
    write("tokenizer_config.json", {"chat_template": "{{ messages }}", "model_max_length": 10**30})
    (tmp_path / "model.safetensors").write_bytes(save({"w": np.zeros(4, np.float32)}))
    (tmp_path / "README.md").write_text("not part of the model")
    return tmp_path


def code_of(folder):
    with pytest.raises(ModelError) as caught:
        inspect_model(folder)
    return caught.value.code


def change_config(folder, **changes):
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))


def test_a_model_is_described_and_every_file_that_matters_is_listed(folder):
    manifest = inspect_model(folder)
    assert (manifest.architecture, manifest.n_layers, manifest.d_model) == ("LlamaForCausalLM", 12, 192)
    assert (manifest.context_length, manifest.vocab_size, manifest.dtype, manifest.model_type) == (512, 1000, "float32", "llama")
    names = [name for name, _digest, _size in manifest.files]
    assert names == ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    weights = (folder / "model.safetensors").read_bytes()
    assert manifest.files[2] == ("model.safetensors", sha256_hex(weights), len(weights))
    assert manifest.fingerprint == sha256_hex(canonical_json(manifest.to_document()))


def test_a_fingerprint_does_not_depend_on_the_folder_or_on_other_files(folder, tmp_path_factory):
    before = inspect_model(folder).fingerprint
    (folder / "README.md").write_text("changed")
    moved = folder.rename(tmp_path_factory.mktemp("other") / "model")
    assert inspect_model(moved).fingerprint == before


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_one_changed_byte_of_any_file_changes_the_fingerprint(folder, name):
    before = inspect_model(folder).fingerprint
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data + (b"\x00" if name.endswith("safetensors") else b" "))
    assert inspect_model(folder).fingerprint != before


def test_a_chat_template_file_is_part_of_the_fingerprint(folder):
    before = inspect_model(folder).fingerprint
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert inspect_model(folder).fingerprint != before


def test_shards_are_hashed_with_their_index(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "model-00001-of-00001.safetensors"}}))
    names = [name for name, _digest, _size in inspect_model(folder).files]
    assert {"model-00001-of-00001.safetensors", "model.safetensors.index.json"} <= set(names)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "model-00002-of-00002.safetensors"}}))
    assert code_of(folder) == "MODEL_FORMAT"


def test_a_missing_folder_or_config_is_named(folder, tmp_path):
    assert code_of(tmp_path / "absent") == "MODEL_MISSING"
    (folder / "config.json").unlink()
    assert code_of(folder) == "MODEL_MISSING"


def test_pickled_weights_are_refused_with_the_way_to_convert_them(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="convert") as caught:
        inspect_model(folder)
    assert caught.value.code == "MODEL_FORMAT"


def test_a_folder_without_weights_or_with_a_pointer_in_their_place_is_refused(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert code_of(folder) == "MODEL_FORMAT"
    (folder / "model.safetensors").unlink()
    assert code_of(folder) == "MODEL_FORMAT"


@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": {"AutoModel": "modeling.Model"}},
        {"_attn_implementation_internal": "org/kernel"},
        {"trust_remote_code": True},
        {"text_config": {"auto_map": {}}},
        {"list": [{"trust_remote_code": False}]},
        {"num_hidden_layers": "12"},
        {"hidden_size": 0},
        {"vocab_size": True},
        {"model_type": None},
    ],
)
def test_a_config_that_could_run_code_or_is_unusable_is_refused(folder, change):
    change_config(folder, **change)
    assert code_of(folder) == "MODEL_CONFIG_REJECTED"


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json"])
def test_the_other_configs_may_not_run_code_either(folder, name):
    (folder / name).write_text(json.dumps({"chat_template": "x", "auto_map": {}}))
    assert code_of(folder) == "MODEL_CONFIG_REJECTED"


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', "[]", "{", "NaN"])
def test_a_config_that_is_no_strict_json_object_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    assert code_of(folder) == "MODEL_CONFIG_REJECTED"


@pytest.mark.parametrize("architectures", [["MambaForCausalLM"], [], None, ["LlamaForCausalLM", "GPT2LMHeadModel"], "nonsense"])
def test_an_unknown_architecture_is_refused_with_the_way_to_register_it(folder, architectures):
    change_config(folder, architectures=architectures)
    with pytest.raises(ModelError, match="register") as caught:
        inspect_model(folder)
    assert caught.value.code == "MODEL_ARCHITECTURE"
    assert "LlamaForCausalLM" in KNOWN_ARCHITECTURES


def test_gpt2_names_for_the_same_sizes_are_understood(folder):
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_layer": 2, "n_embd": 8, "n_positions": 64, "vocab_size": 50}
    (folder / "config.json").write_text(json.dumps(config))
    manifest = inspect_model(folder)
    assert (manifest.n_layers, manifest.d_model, manifest.context_length, manifest.dtype) == (2, 8, 64, "float32")


def test_a_model_without_tokenizer_or_chat_template_is_refused(folder):
    (folder / "tokenizer_config.json").write_text("{}")
    assert code_of(folder) == "MODEL_CHAT_TEMPLATE"
    (folder / "tokenizer.json").unlink()
    assert code_of(folder) == "MODEL_TOKENIZER"
