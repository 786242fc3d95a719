"""The cast of the engine's tests: one tiny model of each block layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import save_model

from steerkit.engine.models import LoadedModel, load_model


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small spend more time waking threads than computing."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: save_model(tmp_path_factory.mktemp(name), name) for name in ("llama", "gpt2", "gpt_neox")}


@pytest.fixture(scope="session")
def llama(model_folders: dict[str, Path]) -> LoadedModel:
    return load_model(model_folders["llama"])


@pytest.fixture(scope="session", params=["llama", "gpt2", "gpt_neox"])
def any_model(request: pytest.FixtureRequest, model_folders: dict[str, Path]) -> LoadedModel:
    return load_model(model_folders[request.param])
