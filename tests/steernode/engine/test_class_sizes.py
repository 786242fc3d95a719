"""What an architecture file says a class takes is what the class takes."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from steernode.files.architectures import known_families

NAMES = {"n_layers": "num_hidden_layers", "d_model": "hidden_size", "context_length": "max_position_embeddings", "vocab_size": "vocab_size"}
# A class without positions of its own has no length that it takes; the models published with it were trained on this one.
TRAINED_ON = {"bloom": {"context_length": 2048}}


@pytest.mark.parametrize("model_type", sorted(known_families()))
def test_the_sizes_of_a_class_are_those_of_its_config(model_type: str) -> None:
    family = known_families()[model_type]
    config = AutoConfig.for_model(model_type, **({} if family.text_part is None else {family.text_part: {}}))
    text = family.text_config(config)
    found = {name: getattr(text, key, None) for name, key in NAMES.items()} | TRAINED_ON.get(model_type, {})
    assert dict(family.sizes) == {name: size for name, size in found.items() if size is not None}
