"""Candidates: the vector files that an extraction chooses from, and what is judged, read back from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry.blobs import get_blob
from registry.models import Job
from registry.services.conditions import resolve_condition
from steernode.files.suites import SuiteFile
from steernode.records.recipe import ExtractionRecipe
from steernode.snapshot.conditions import parse_condition
from workers.inputs import read_suites

if TYPE_CHECKING:
    from collections.abc import Mapping

    from steernode.engine.access.models import LoadedModel
    from steernode.engine.judging.candidate import Candidate
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


def read_served(job: Job, loaded: LoadedModel) -> dict[str, SuiteFile]:
    """The suites of an extraction as its recipe has the model served, and where it has the vector act."""
    from steernode.engine.judging.acting import serve_suites

    recipe = ExtractionRecipe.from_document(job.recipe)
    condition = resolve_condition(recipe.condition)
    read = None if condition is None else parse_condition(condition)
    return serve_suites(loaded, read_suites(job), recipe.system_message, read, _get_probe(condition))


def read_candidate(component: Mapping[str, Any]) -> Candidate:
    """Of a component without its range, with the files that it names: its vector's, and that of the probe which its condition asks."""
    from steernode.engine.judging.candidate import Candidate

    return Candidate.read(component, get_blob(component["vector"]["sha256"]), _get_probe(component["condition"]))


def _get_probe(condition: Mapping[str, Any] | None) -> bytes | None:
    """The vector file of the probe that a condition asks, if it asks one."""
    entry = (condition or {}).get("vector")
    return get_blob(entry["sha256"]) if entry else None
