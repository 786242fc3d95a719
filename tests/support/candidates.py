"""Candidates out of directions that no file was written for."""

from __future__ import annotations

from typing import Any

from steernode.canonical import format_measure
from steernode.engine.judging.candidate import Candidate
from steernode.engine.reading.directions import LayerDirection
from steernode.snapshot.readers import read_component


def make_candidate(direction: LayerDirection, alpha: str, *, digest: str = "f" * 64, **how: Any) -> Candidate:
    """The direction added at α mean differences to what is generated, unless `how` says otherwise."""
    document = {
        "vector": {"sha256": digest, "bytes": 1, "dtype": "F32", "shape": [len(direction.direction)]},
        "layer": direction.layer,
        "site": direction.site,
        "norm": format_measure(direction.norm),
        "mean_residual_norm": format_measure(direction.mean_residual_norm),
        "alpha": alpha,
        "alpha_min": alpha,
        "alpha_max": alpha,
        "unit": "mean_difference",
        "operator": "add",
        "scope": "generated",
        "schedule": {"kind": "constant"},
        "condition": None,
    }
    return Candidate(read_component(document | how, "component"), direction)
