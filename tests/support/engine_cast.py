"""The cast of the engine's tests: a tiny model of each architecture, built when a test first asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from steernode.engine.access.models import LoadedModel, load_model
from tests.support.tiny_models import OLDEST, WRITTEN_OUT, save_model


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small spend more time waking threads than computing."""
    torch.set_num_threads(1)


class ModelFolders(dict[str, Path]):
    def __init__(self, root: Path) -> None:
        self._root = root

    def __missing__(self, name: str) -> Path:
        self[name] = save_model(self._root / name, name)
        return self[name]


class LoadedModels(dict[str, LoadedModel]):
    def __init__(self, folders: ModelFolders) -> None:
        self._folders = folders

    def __missing__(self, name: str) -> LoadedModel:
        self[name] = load_model(self._folders[name])
        return self[name]


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> ModelFolders:
    return ModelFolders(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def loaded_models(model_folders: ModelFolders) -> LoadedModels:
    return LoadedModels(model_folders)


@pytest.fixture(scope="session")
def llama(loaded_models: LoadedModels) -> LoadedModel:
    return loaded_models["llama"]


@pytest.fixture(scope="session", params=OLDEST)
def any_model(request: pytest.FixtureRequest, loaded_models: LoadedModels) -> LoadedModel:
    return loaded_models[request.param]


@pytest.fixture(scope="session", params=WRITTEN_OUT)
def every_model(request: pytest.FixtureRequest, loaded_models: LoadedModels) -> LoadedModel:
    return loaded_models[request.param]
