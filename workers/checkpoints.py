"""What an unfinished extraction has finished: the directions as vector files, and the cells of the sweep so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry.blobs import get_blob, put_blob
from registry.models import Job
from registry.services.jobs import save_checkpoint
from steernode.records.recipe import ExtractionRecipe
from workers.lease import LeaseEnded

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


class Checkpoint:
    """The checkpoint of one attempt; it begins with what earlier attempts left."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._files: list[str] = list(job.checkpoint.get("directions", []))
        self._cells: list[dict[str, Any]] = list(job.checkpoint.get("cells", []))

    def directions(self) -> list[bytes]:
        """The vector files of all layers, or none if extraction has not finished."""
        return [get_blob(digest) for digest in self._files]

    def cells(self) -> list[dict[str, Any]]:
        return list(self._cells)

    def keep_directions(self, files: list[bytes]) -> None:
        self._files = [put_blob(file) for file in files]
        self._save()

    def keep_cell(self, cell: dict[str, Any]) -> None:
        self._cells.append(cell)
        self._save()

    def _save(self) -> None:
        """Raises: LeaseEnded when another attempt owns the job."""
        if not save_checkpoint(self._job, {"directions": self._files, "cells": self._cells}):
            raise LeaseEnded(f"{self._job} attempt {self._job.attempt} is not ours any more")
