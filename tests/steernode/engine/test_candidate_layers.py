"""Candidate layers: what is read when nobody names layers, on a model that is deep enough to have others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from steernode.engine.access.models import LoadedModel, load_model
from steernode.engine.reading.capture import capture_spec
from steernode.engine.reading.directions import extract_directions
from tests.support.tiny_models import build_model, build_tokenizer, make_pairs


@pytest.fixture(scope="module")
def six_layers(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder: Path = tmp_path_factory.mktemp("six-layers")
    build_model("llama", num_hidden_layers=6).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return load_model(folder)


def test_an_extraction_reads_the_layers_that_the_default_gates_allow(six_layers: LoadedModel) -> None:
    pairs = make_pairs(4)
    found = extract_directions(six_layers, pairs)
    every = extract_directions(six_layers, pairs, layers=range(6))
    assert [direction.layer for direction in found] == [0, 1, 2, 3, 4]
    assert [direction.layer for direction in every] == [0, 1, 2, 3, 4, 5]
    for one, same in zip(found, every, strict=False):
        assert torch.allclose(one.direction, same.direction, atol=1e-5)
    assert capture_spec(six_layers, site="embedding").layers == (0,)
