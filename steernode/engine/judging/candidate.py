"""The candidate of an evaluation: a component as a revision writes it, and the direction in its vector file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steernode.engine.applying.components import Component
from steernode.engine.measuring.stats import measure
from steernode.engine.reading.directions import LayerDirection, read_direction
from steernode.errors import EngineError
from steernode.files.vectors import read_vector
from steernode.snapshot import records
from steernode.snapshot.conditions import Condition, parse_condition_bytes
from steernode.snapshot.readers import read_component
from steernode.snapshot.resolve import scale_component

# An evaluation is of one α.
_NOT_JUDGED = ("alpha_min", "alpha_max")


def read_probe_direction(data: bytes) -> Tensor:
    """The unit direction (d_model,) in a probe's vector file. Raises: VectorFileError."""
    return torch.from_numpy(read_vector(data).direction.copy())


@dataclass(frozen=True, eq=False)
class Candidate:
    """A stored vector at one α, how it would be applied, and the unit direction (d_model,) of the probe that its condition asks, if any."""

    record: records.Component
    direction: LayerDirection
    probe: Tensor | None = None

    @classmethod
    def read(cls, document: Mapping[str, Any], vector_file: bytes, probe_file: bytes | None = None) -> Candidate:
        """`document` is the component without its range. Raises: FieldError; VectorFileError."""
        whole = {**document, "alpha_min": document["alpha"], "alpha_max": document["alpha"]}
        probe = None if probe_file is None else read_probe_direction(probe_file)
        return cls(read_component(whole, "component"), read_direction(read_vector(vector_file)), probe)

    @property
    def condition(self) -> Condition | None:
        entry = self.record.condition
        return None if entry is None else parse_condition_bytes(entry.document)

    @property
    def probe_direction(self) -> Tensor:
        """Raises: EngineError PROBE_MISSING."""
        if self.probe is None:
            raise EngineError("PROBE_MISSING", "the condition asks a probe whose vector file was not given", self.record.vector.sha256)
        return self.probe

    def component(self) -> Component:
        return Component.of(scale_component(self.record, self.record.alpha), self.direction.direction)

    def to_document(self) -> dict[str, Any]:
        return {
            "vector_digest": self.record.vector.sha256,
            "layer": self.record.layer,
            "site": self.record.site,
            "coefficient": measure(self.component().coefficient),
            "norm": measure(self.direction.norm),
            "mean_residual_norm": measure(self.direction.mean_residual_norm),
            "method": self.direction.method,
            "read_position": self.direction.read_position,
            **{name: value for name, value in self.record.stated().items() if name not in _NOT_JUDGED and value is not None},
        }
