"""What an unfinished extraction has finished: the directions as vector files, and the cells of the sweep so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry.blobs import get_blob, put_blob
from registry.models import Job
from registry.services.jobs import save_checkpoint
from steerkit import __version__
from steerkit.canonical import format_measure
from steerkit.vectorfile import read_vector, write_vector
from workers.lease import LeaseEnded

if TYPE_CHECKING:
    from steerkit.engine.directions import LayerDirection


def write_direction(job: Job, direction: LayerDirection) -> bytes:
    """The vector file of one layer, with its whole lineage."""
    if job.contrast_set is None:
        raise ValueError(f"{job} has no contrast set")
    lineage = {
        "schema": "steerhub.vector/1",
        "base_model_fingerprint": job.base_model.fingerprint,
        "layer": direction.layer,
        "site": direction.site,
        "method": job.recipe["method"],
        "read_position": job.recipe["read_position"],
        "contrast_set_digest": job.contrast_set.digest,
        "norm": format_measure(direction.norm),
        "mean_residual_norm": format_measure(direction.mean_residual_norm),
        "engine_version": __version__,
        "seed": job.recipe["seed"],
        "pairs": direction.pairs,
    }
    return write_vector(direction.direction.numpy(), lineage, job.recipe["dtype"])


def read_direction(data: bytes) -> LayerDirection:
    """The direction as every later stage and every node will see it: after the rounding of its file's dtype."""
    import torch

    from steerkit.engine.directions import LayerDirection

    file = read_vector(data)
    return LayerDirection(
        layer=file.lineage["layer"],
        site=file.lineage["site"],
        direction=torch.from_numpy(file.direction.copy()),
        norm=float(file.lineage["norm"]),
        mean_residual_norm=float(file.lineage["mean_residual_norm"]),
        pairs=file.lineage["pairs"],
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
