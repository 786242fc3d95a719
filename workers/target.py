"""The one model that this worker process keeps loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.models import BaseModel
from registry.services.base_models import resolve_model_folder
from steerkit.basemodel import inspect_model
from steerkit.errors import ModelError

if TYPE_CHECKING:
    from steerkit.engine.models import LoadedModel

_loaded: LoadedModel | None = None


def load_target(base_model: BaseModel) -> LoadedModel:
    """The registered model, loaded once and kept until another is asked for.

    The files are hashed before every job, so a model that changed since it was registered is refused, loaded or not.
    Raises: ModelError MODEL_CHANGED.
    """
    global _loaded
    folder = resolve_model_folder(base_model.source)
    fingerprint = inspect_model(folder).fingerprint
    if fingerprint != base_model.fingerprint:
        raise ModelError(
            "MODEL_CHANGED",
            f"the files of {base_model.name} have the fingerprint {fingerprint[:12]}, registered is {base_model.fingerprint[:12]}; "
            "register the new files and ask again",
            base_model.name,
        )
    if _loaded is None or _loaded.fingerprint != fingerprint:
        from steerkit.engine.models import load_model

        _loaded = None
        _loaded = load_model(folder)
    return _loaded
