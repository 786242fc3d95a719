"""The models that the engine's tests are built on."""

from tests.support.engine_cast import llama, loaded_models, model_folders, one_thread

__all__ = ["llama", "loaded_models", "model_folders", "one_thread"]
