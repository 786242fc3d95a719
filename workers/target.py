"""What this worker process keeps from one job to the next: the one model it has loaded, and the scorers it has trained."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from registry.blobs import get_blob
from registry.models import BaseModel
from registry.services.base_models import resolve_model_folder
from steernode.behaviour import read_behaviour
from steernode.errors import ModelError
from steernode.files.basemodels import inspect_model
from steernode.files.suites import parse_rubric

if TYPE_CHECKING:
    from steernode.engine.access.models import LoadedModel
    from steernode.engine.measuring.rubric import RubricScorer

_loaded: LoadedModel | None = None


def load_target(base_model: BaseModel) -> LoadedModel:
    """The registered model, loaded once and kept until another is asked for.

    The files are hashed before every job, so a model that changed since it was registered is refused, loaded or not.
    Raises: ModelError MODEL_CHANGED, ARCHITECTURE_CHANGED, MODEL_BEHAVES_OTHERWISE.
    """
    global _loaded
    folder = resolve_model_folder(base_model.source)
    found = inspect_model(folder)
    fingerprint = found.fingerprint
    if fingerprint != base_model.fingerprint:
        raise ModelError(
            "MODEL_CHANGED",
            f"the files of {base_model.name} have the fingerprint {fingerprint[:12]}, registered is {base_model.fingerprint[:12]}; "
            "register the new files and ask again",
            base_model.name,
        )
    if base_model.architecture_digest not in ("", found.architecture_digest):
        raise ModelError(
            "ARCHITECTURE_CHANGED",
            f"{base_model.name} was registered as an architecture with digest {base_model.architecture_digest[:12]}, this worker reads it "
            f"by {found.architecture_digest[:12]}; give the hub, its workers and nodes the same file",
            base_model.name,
        )
    if _loaded is None or _loaded.fingerprint != fingerprint:
        from steernode.engine.access.models import load_model

        _loaded = None
        _loaded = _prove(base_model, load_model(folder))
    return _loaded


def _prove(base_model: BaseModel, loaded: LoadedModel) -> LoadedModel:
    """What was loaded says what it said when it was registered, if that is on record. Raises: ModelError MODEL_BEHAVES_OTHERWISE."""
    from steernode.engine.access.behaving import prove_behaviour

    if base_model.behaviour is not None:
        prove_behaviour(loaded, read_behaviour(base_model.behaviour, "behaviour"))
    return loaded


@lru_cache(maxsize=8)
def train_scorer(rubric_digest: str) -> RubricScorer:
    """The scorer of a rubric. The same examples train the same scorer, so a validation uses its extraction's."""
    from steernode.engine.measuring.rubric import RubricScorer

    rubric = parse_rubric(get_blob(rubric_digest))
    return RubricScorer.train(rubric.examples, rubric.axis)
