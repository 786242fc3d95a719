"""Models of every architecture, as small as they can be."""

from tests.support.engine_cast import any_model, every_model, llama, loaded_models, model_folders, one_thread

__all__ = ["any_model", "every_model", "llama", "loaded_models", "model_folders", "one_thread"]
