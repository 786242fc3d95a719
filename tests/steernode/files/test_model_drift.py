"""The difference of two fingerprints is told by what changed: weights, tokenizer, chat template, config."""

import json
from pathlib import Path

import pytest

from steernode.files.basemodels import inspect_model
from steernode.files.drift import describe_drift
from tests.support.files import write_model_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model_folder(tmp_path / "model")


def drift_of(folder: Path, change: object) -> list[str]:
    before = inspect_model(folder)
    change(folder)
    after = inspect_model(folder)
    phrases = describe_drift(before.to_document(), after.to_document())
    assert (phrases == []) == (before.fingerprint == after.fingerprint)
    return phrases


def test_equal_models_differ_in_nothing(folder):
    assert drift_of(folder, lambda folder: None) == []


def test_a_changed_chat_template_counts_and_is_named(folder):
    assert drift_of(folder, lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}")) == [
        "chat template: chat_template.jinja changed"
    ]


def test_a_changed_tokenizer_counts_and_is_named(folder):
    def change(folder: Path) -> None:
        (folder / "tokenizer.json").write_text('{"a": 1}')
        (folder / "added_tokens.json").write_text("{}")

    assert drift_of(folder, change) == ["tokenizer: added_tokens.json added, tokenizer.json changed"]


def test_a_template_inside_the_tokenizer_config_may_be_what_changed(folder):
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text('{"chat_template": "a"}')
    phrases = drift_of(folder, lambda folder: (folder / "tokenizer_config.json").write_text('{"chat_template": "b"}'))
    assert phrases == ["tokenizer or chat template: tokenizer_config.json changed"]


def test_another_size_is_said_in_numbers(folder):
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 6}))

    assert drift_of(folder, change) == ["config: config.json changed, n_layers 4 → 6"]


def test_many_shards_are_counted_not_listed(folder):
    def change(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").unlink()
        for number in range(5):
            (folder / f"model-{number}.safetensors").write_bytes(data)

    assert drift_of(folder, change) == ["weights: 5 files added, model.safetensors removed"]
