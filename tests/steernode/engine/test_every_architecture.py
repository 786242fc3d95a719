"""Every architecture that ships goes through one suite, and docs/engine.md says what it found."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import OlmoeConfig, OlmoeForCausalLM

from steernode.engine.access.models import load_model
from steernode.errors import ModelError
from steernode.files.architectures import known_families, learn_architectures
from steernode.integrations.transformers import TransformersEngine
from tests.support.architecture_suite import examine
from tests.support.architecture_table import PAGE, read_lines
from tests.support.architectures import write_architecture
from tests.support.tiny_models import CONTEXT, NAMES, build_model, build_tokenizer


@pytest.mark.parametrize("name", NAMES)
def test_an_architecture_reads_steers_and_resumes_as_its_line_of_the_table_says(loaded_models: dict, name: str) -> None:
    assert examine(loaded_models[name]).to_line() in read_lines(PAGE.read_text())


def test_a_class_that_an_operator_described_goes_through_the_same_suite(tmp_path: Path) -> None:
    model = OlmoeForCausalLM(
        OlmoeConfig(
            vocab_size=263, hidden_size=32, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4, num_experts=4,
            num_experts_per_tok=2, max_position_embeddings=CONTEXT, initializer_range=0.2, eos_token_id=6, pad_token_id=2,
        )
    )  # fmt: skip
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    with pytest.raises(ModelError, match="OlmoeForCausalLM") as refused:
        load_model(folder)
    assert refused.value.code == "MODEL_ARCHITECTURE"
    [family] = learn_architectures(write_architecture(tmp_path / "architectures", "olmoe", "OlmoeForCausalLM"))
    engine = TransformersEngine(folder)
    assert engine.architecture_digest == family.digest
    examine(load_model(folder))


def test_every_family_that_ships_has_a_tiny_model_and_a_line() -> None:
    types = {build_model(name).config.model_type for name in NAMES}
    assert types == set(known_families())
    assert {line.split("`")[3] for line in read_lines(PAGE.read_text())} == types
