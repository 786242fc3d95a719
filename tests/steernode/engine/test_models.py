"""Loading: what a folder must be before anything in it is loaded, and where the blocks are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from steernode.engine.access import models
from steernode.engine.access.models import LoadedModel, load_model, wrap_model
from steernode.engine.access.sites import residual_stream
from steernode.errors import EngineError, ModelError
from steernode.files.architectures import learn_architectures
from steernode.files.basemodels import inspect_model
from tests.support.architectures import write_architecture


def test_a_loaded_model_knows_its_files_and_its_blocks(any_model: LoadedModel) -> None:
    assert any_model.n_layers == any_model.manifest.n_layers
    assert any_model.d_model == 32
    assert len(any_model.fingerprint) == 64
    assert any_model.end_token_ids == {6}
    assert not any(parameter.requires_grad for parameter in any_model.model.parameters())
    assert not any_model.model.training


def test_a_hub_id_without_a_pinned_commit_is_refused_before_any_download() -> None:
    for revision in (None, "main", "v1.0", "abc123", "A" * 40):
        with pytest.raises(ModelError) as refused:
            load_model("harbor/support-model", revision=revision)
        assert refused.value.code == "MODEL_REVISION_REQUIRED"


def test_a_folder_that_does_not_exist_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        load_model(tmp_path / "nowhere")
    assert refused.value.code == "MODEL_MISSING"


def test_an_unknown_dtype_is_refused(model_folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError) as refused:
        load_model(model_folders["llama"], dtype="int4")
    assert refused.value.code == "MODEL_DTYPE"


def test_a_config_that_would_run_code_is_refused_before_loading(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(model_folders["llama"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    with pytest.raises(ModelError) as refused:
        load_model(folder)
    assert refused.value.code == "MODEL_CONFIG_REJECTED"


def test_weights_that_do_not_fit_the_config_are_an_error_with_a_code(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(model_folders["llama"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(ModelError) as refused:
        load_model(folder)
    assert refused.value.code == "MODEL_LOAD"


def test_a_folder_that_lacks_a_weight_is_refused_instead_of_filled_with_noise(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(model_folders["llama"], tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"mlp\.up_proj") as refused:
        load_model(folder)
    assert refused.value.code == "MODEL_LOAD"


def test_a_config_with_another_number_of_layers_than_the_model_is_refused(llama: LoadedModel) -> None:
    with pytest.raises(ModelError, match="4 decoder blocks, its config says 5") as refused:
        wrap_model(llama.model, llama.tokenizer, replace(llama.manifest, n_layers=5))
    assert refused.value.code == "MODEL_ARCHITECTURE"


def test_tensors_and_tuples_from_a_block_are_both_unpacked() -> None:
    stream = torch.zeros(1, 2, 3)
    assert residual_stream(stream) is stream
    assert residual_stream((stream, "cache")) is stream
    for output in (None, torch.zeros(3), {"hidden": stream}):
        with pytest.raises(EngineError) as refused:
            residual_stream(output)
        assert refused.value.code == "BLOCK_OUTPUT"


def test_what_is_not_in_the_fingerprint_no_loader_finds(model_folders: dict[str, Path], tmp_path: Path) -> None:
    """`additional_chat_templates` stands for whatever else a later library may look for beside the weights."""
    folder = shutil.copytree(model_folders["llama"], tmp_path / "model")
    before = inspect_model(folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "other.jinja").write_text("{{ 'another' }}")
    (folder / "processor_config.json").write_text(json.dumps({"chat_template": "{{ 'another' }}"}))
    assert inspect_model(folder) == before
    loaded = load_model(folder)
    assert isinstance(loaded.tokenizer.chat_template, str)
    assert loaded.model.config._name_or_path == loaded.tokenizer.name_or_path == str(folder)


def test_a_template_in_chat_template_json_is_loaded_where_there_is_no_other(
    llama: LoadedModel, model_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(model_folders["llama"], tmp_path / "model")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "{{ 'another' }}"}))
    assert load_model(folder).tokenizer.chat_template == llama.tokenizer.chat_template
    (folder / "chat_template.jinja").unlink()
    assert load_model(folder).tokenizer.chat_template == "{{ 'another' }}"


def test_a_class_that_the_installed_library_lacks_is_refused_with_what_to_do(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(model_folders["llama"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    # `Trainer` is in the library, and is no model.
    for class_name in ("NextYearForCausalLM", "Trainer"):
        model_type = class_name.lower()
        learn_architectures(write_architecture(tmp_path / class_name, model_type, class_name))
        (folder / "config.json").write_text(json.dumps(config | {"architectures": [class_name], "model_type": model_type}))
        with pytest.raises(ModelError, match="install a version that has") as refused:
            load_model(folder)
        assert (refused.value.code, refused.value.item) == ("MODEL_ARCHITECTURE", class_name)


def test_weights_are_those_of_the_file_as_it_was_loaded(model_folders: dict[str, Path], tmp_path: Path) -> None:
    """What a loader maps into memory would change with its file, under a fingerprint that it no longer has."""
    folder = shutil.copytree(model_folders["llama"], tmp_path / "model")
    loaded = load_model(folder)
    before = {name: weights.clone() for name, weights in loaded.model.named_parameters()}
    weights = folder / "model.safetensors"
    with weights.open("r+b") as stream:
        stream.seek(weights.stat().st_size // 2)
        stream.write(b"\x01" * (weights.stat().st_size // 2))
    assert [name for name, now in loaded.model.named_parameters() if not torch.equal(now, before[name])] == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_that_is_written_to_while_it_is_loaded_is_refused(
    name: str, model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(model_folders["llama"], tmp_path / "model")
    load = models._load_pretrained

    def write_meanwhile(*arguments: Any) -> Any:
        held = (folder / name).read_bytes()
        # Other bytes for as long as they are loaded; the same as before when somebody looks again.
        (folder / name).write_bytes(held.replace(b'"rms_norm_eps": 1e-06', b'"rms_norm_eps": 1e-02') if name == "config.json" else held)
        try:
            return load(*arguments)
        finally:
            (folder / name).write_bytes(held)

    monkeypatch.setattr(models, "_load_pretrained", write_meanwhile)
    with pytest.raises(ModelError) as refused:
        load_model(folder)
    assert refused.value.code == "FOLDER_CHANGED"
