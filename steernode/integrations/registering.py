"""What `steer model register` and `steer model prove` ask of a loaded model, on the CPU of whoever types them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from steernode.behaviour import Behaviour
from steernode.engine.access.behaving import Proof, measure_behaviour, prove_behaviour
from steernode.engine.access.models import LoadedModel, load_model


def measure_folder(folder: Path, reference: str, dtypes: Sequence[str]) -> tuple[str, Behaviour]:
    """The fingerprint, and what the model says to the eight prompts, with what rounding moves in these dtypes. One after the other, so that
    two are in memory at most. Raises: ModelError, EngineError."""
    loaded = load_model(folder, dtype=reference)

    def others() -> Iterator[LoadedModel]:
        for dtype in dtypes:
            if dtype != reference:
                yield load_model(folder, dtype=dtype)

    return loaded.fingerprint, measure_behaviour(loaded, others())


def prove_folder(folder: Path, dtype: str, behaviour: Behaviour) -> Proof | None:
    """Raises: ModelError MODEL_BEHAVES_OTHERWISE."""
    return prove_behaviour(load_model(folder, dtype=dtype), behaviour)
