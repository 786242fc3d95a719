"""The vector files that an extraction chooses from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.models import Job
from steernode.records.recipe import ExtractionRecipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from steernode.engine.reading.directions import LayerDirection


def write_candidate(job: Job, direction: LayerDirection, ran_on: Mapping[str, str]) -> bytes:
    """The vector file of one layer, with the job's lineage."""
    from steernode.engine.reading.directions import write_direction

    if job.contrast_set is None:
        raise ValueError(f"{job} has no contrast set")
    recipe = ExtractionRecipe.from_document(job.recipe)
    return write_direction(
        direction,
        base_model_fingerprint=job.base_model.fingerprint,
        contrast_set_digest=job.contrast_set.digest,
        architecture_digest=job.base_model.architecture_digest,
        method=recipe.method,
        read_position=recipe.read_position,
        dtype=recipe.dtype,
        ran_on=ran_on,
    )
