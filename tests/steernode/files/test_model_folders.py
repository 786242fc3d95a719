import json
import os

import numpy as np
import pytest
from safetensors.numpy import save

from steernode.canonical import canonical_json, sha256_hex
from steernode.errors import ModelError
from steernode.files.basemodels import inspect_model, read_template_file

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
    (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if name.endswith("safetensors") else data + b" ")
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
def test_an_unknown_architecture_is_refused_with_the_way_to_teach_it(folder, architectures):
    change_config(folder, architectures=architectures)
    with pytest.raises(ModelError, match=r"not known here\. To teach it.*docs/engine\.md.*STEERHUB_ARCHITECTURES") as caught:
        inspect_model(folder)
    assert caught.value.code == "MODEL_ARCHITECTURE"
    # What to do stands at the front, and fits on a screen.
    assert len(caught.value.message) < 400


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


def test_a_chat_template_json_is_a_template_and_is_hashed(folder):
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert "chat_template.json" in [name for name, _digest, _size in inspect_model(folder).files]
    assert read_template_file(folder) == "{{ messages }}"
    for odd in ({"template": "x"}, {"chat_template": ""}, {"chat_template": ["x"]}):
        (folder / "chat_template.json").write_text(json.dumps(odd))
        assert code_of(folder) == "MODEL_CHAT_TEMPLATE"


@pytest.mark.parametrize("cut", [1, 8, 15])
def test_weights_without_their_tail_are_refused_before_anything_is_loaded(folder, cut):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-cut])
    assert code_of(folder) == "MODEL_FORMAT"


def test_weights_whose_tensors_do_not_fill_the_file_are_refused(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole + b"\x00")
    assert code_of(folder) == "MODEL_FORMAT"
    for header in (
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [4, 20]}},
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, True]}},
        {"w": {"dtype": "F32", "shape": [4]}},
        {"w": 3},
        [],
    ):
        text = json.dumps(header).encode()
        weights.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
        assert code_of(folder) == "MODEL_FORMAT"
    weights.write_bytes((10**9).to_bytes(8, "little") + bytes(64))
    assert code_of(folder) == "MODEL_FORMAT"


@pytest.mark.parametrize("name", ["adapter_config.json", "abliteration_config.json", "steering_config.json"])
def test_what_a_loader_would_lay_over_the_weights_is_refused_by_name(folder, name):
    (folder / name).write_text("{}")
    with pytest.raises(ModelError, match=name) as caught:
        inspect_model(folder)
    assert (caught.value.code, caught.value.item) == ("MODEL_CONFIG_REJECTED", name)


@pytest.mark.parametrize(
    "key",
    ["abliteration_config", "steering", "steering_vectors", "control_vectors", "controlvector", "refusal_directions",
     "activation_additions", "configuration_files", "_experts_implementation_internal"],
)  # fmt: skip
def test_a_config_that_steers_or_points_elsewhere_is_refused_by_name(folder, key):
    change_config(folder, text_config={key: {"layers": [1]}})
    with pytest.raises(ModelError, match=key) as caught:
        inspect_model(folder)
    assert (caught.value.code, caught.value.item) == ("MODEL_CONFIG_REJECTED", key)


def test_a_class_under_another_model_type_is_refused(folder):
    change_config(folder, model_type="gpt2")
    assert code_of(folder) == "MODEL_ARCHITECTURE"


def test_a_size_that_the_config_leaves_out_is_that_of_the_class(folder):
    config = {"architectures": ["FalconForCausalLM"], "model_type": "falcon", "num_hidden_layers": 2, "hidden_size": 8, "vocab_size": 50}
    (folder / "config.json").write_text(json.dumps(config))
    assert inspect_model(folder).context_length == 2048
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": None}))
    assert code_of(folder) == "MODEL_CONFIG_REJECTED"


def test_the_sizes_of_a_model_for_more_than_text_are_those_of_its_text_part(folder):
    text = {"model_type": "gemma3_text", "hidden_size": 8, "num_hidden_layers": 2}
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config | {"text_config": text}))
    manifest = inspect_model(folder)
    assert (manifest.n_layers, manifest.d_model, manifest.context_length, manifest.vocab_size) == (2, 8, 131072, 262208)
    assert (manifest.model_type, manifest.dtype) == ("gemma3", "bfloat16")
    # A text part of another class has that one's sizes.
    config = {"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3"}
    (folder / "config.json").write_text(json.dumps(config | {"text_config": text | {"model_type": "ministral3"}}))
    assert inspect_model(folder).context_length == 262144
    (folder / "config.json").write_text(json.dumps(config))
    assert code_of(folder) == "MODEL_CONFIG_REJECTED"


def test_layers_that_are_listed_are_counted(folder):
    config = {"architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "layers_block_type": ["mamba", "moe", "attention"]}
    (folder / "config.json").write_text(json.dumps(config))
    assert inspect_model(folder).n_layers == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        # Whoever opened it would wait for somebody to write.
        os.mkfifo,
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to(path.name),
    ],
)
def test_weights_that_are_no_file_are_refused(folder, make):
    make(folder / "more.safetensors")
    assert code_of(folder) == "MODEL_FORMAT"


def test_a_folder_that_cannot_be_read_is_refused_by_name(folder, monkeypatch):
    def refuse(_path):
        raise PermissionError(13, "Permission denied", str(folder / "config.json"))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(ModelError, match=r"config\.json cannot be read: Permission denied") as caught:
        inspect_model(folder)
    assert caught.value.code == "MODEL_MISSING"


@pytest.mark.parametrize("size", ["num_hidden_layers", "hidden_size", "max_position_embeddings", "vocab_size"])
def test_a_size_that_no_model_has_is_refused(folder, size):
    change_config(folder, **{size: 10**30})
    assert code_of(folder) == "MODEL_CONFIG_REJECTED"


def test_a_config_that_names_other_weights_is_refused(folder):
    change_config(folder, transformers_weights="other.safetensors")
    assert code_of(folder) == "MODEL_CONFIG_REJECTED"
