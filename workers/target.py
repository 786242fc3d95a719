"""What this worker process keeps from one job to the next: the one model it has loaded, and the scorers it has trained."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings

from registry.blobs import get_blob
from registry.models import BaseModel
from registry.services.base_models import resolve_model_folder
from steernode.behaviour import read_behaviour
from steernode.errors import ModelError
from steernode.files.basemodels import ModelFiles, inspect_model, read_stamps
from steernode.files.suites import parse_rubric
from workers.devices import hold_device
from workers.meter import Meter

if TYPE_CHECKING:
    from steernode.engine.access.models import LoadedModel
    from steernode.engine.measuring.rubric import RubricScorer
    from steernode.files.hashing import Stamp

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """A loaded model, what it was loaded from and in which dtype, and the stamps that its files had then."""

    loaded: LoadedModel
    folder: Path
    dtype: str
    stamps: tuple[Stamp, ...]
    meter: Meter


# The timer that releases it runs in a thread of its own.
_lock = threading.Lock()
_kept: Kept | None = None
_idle: threading.Timer | None = None


def load_target(base_model: BaseModel, dtype: str) -> LoadedModel:
    """The registered model in this dtype, loaded once and kept until another is asked for, or nobody asks for long.

    Its files are held against the record before every job, so a model that changed since it was registered is refused, loaded or not.
    Raises: ModelError MODEL_CHANGED, ARCHITECTURE_CHANGED, FOLDER_CHANGED, MODEL_BEHAVES_OTHERWISE, and the codes of
    `load_model`.
    """
    global _kept
    with _lock:
        _stop_waiting()
        folder = resolve_model_folder(base_model.source)
        found = _inspect(base_model, folder)
        stamps = read_stamps(folder, found)
        kept, _kept = _kept, None
        if kept is None or (kept.loaded.fingerprint, kept.folder, kept.dtype, kept.stamps) != (found.fingerprint, folder, dtype, stamps):
            from steernode.engine.access.devices import free_memory
            from steernode.engine.access.models import load_model

            if kept is not None:
                # The old one first: there may be no room for two.
                kept = None
                free_memory()
            loaded = _prove(base_model, load_model(folder, dtype=dtype, device=hold_device()))
            kept = Kept(loaded, folder, dtype, stamps, Meter(loaded))
        if kept.loaded.name != base_model.name:
            # The same files may be on record under two names.
            kept = replace(kept, loaded=replace(kept.loaded, name=base_model.name))
        _kept = kept
    confirm_target(base_model)
    kept.meter.begin()
    return kept.loaded


def describe_use() -> dict[str, Any]:
    """What the job under way takes of this machine, as columns of it; nothing before it has a model."""
    kept = _kept
    return {} if kept is None or _idle is not None else kept.meter.read()


def confirm_target(base_model: BaseModel) -> None:
    """That nobody wrote to the files since they were loaded: what is in memory may be the very pages of the files.

    To be asked once a job has its result and before anybody has it. Raises: ModelError FOLDER_CHANGED, MODEL_CHANGED.
    """
    kept = _kept
    if kept is None:
        return
    found = _inspect(base_model, kept.folder)
    if read_stamps(kept.folder, found) != kept.stamps:
        raise ModelError(
            "FOLDER_CHANGED", f"the files of {base_model.name} were written to while a job worked from them; ask again", base_model.name
        )


def leave_target() -> None:
    """A job has ended: what it had loaded stays for the next one, for STEERHUB_WORKER_IDLE_SECONDS."""
    global _idle
    with _lock:
        _stop_waiting()
        if _kept is not None:
            _idle = threading.Timer(settings.STEERHUB_WORKER_IDLE_SECONDS, _release_idle)
            _idle.daemon = True
            _idle.start()


def _release_idle() -> None:
    global _kept
    with _lock:
        if _idle is not threading.current_thread() or _kept is None:
            # A job came first.
            return
        from steernode.engine.access.devices import free_memory

        logger.info("nobody asked for %s in %s seconds: it is released", _kept.folder.name, settings.STEERHUB_WORKER_IDLE_SECONDS)
        _kept = None
        free_memory()


def _stop_waiting() -> None:
    global _idle
    if _idle is not None:
        _idle.cancel()
    _idle = None


def _inspect(base_model: BaseModel, folder: Path) -> ModelFiles:
    """Raises: ModelError MODEL_CHANGED, ARCHITECTURE_CHANGED."""
    found = inspect_model(folder)
    if found.fingerprint != base_model.fingerprint:
        raise ModelError(
            "MODEL_CHANGED",
            f"the files of {base_model.name} have the fingerprint {found.fingerprint[:12]}, registered is {base_model.fingerprint[:12]}; "
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
    return found


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
