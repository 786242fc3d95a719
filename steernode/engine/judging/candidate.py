"""The candidate of an evaluation: a component as a revision writes it, and the direction in its vector file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steernode.engine.applying.components import Component
from steernode.engine.measuring.stats import measure
from steernode.engine.reading.directions import LayerDirection, read_direction
from steernode.files.vectors import read_vector
from steernode.snapshot import records
from steernode.snapshot.readers import read_component
from steernode.snapshot.resolve import scale_component

# An evaluation is of one α. Conditions are taken to hold, so that what can act is judged.
_NOT_JUDGED = ("alpha_min", "alpha_max", "condition")


@dataclass(frozen=True, eq=False)
class Candidate:
    """A stored vector at one α, and how it would be applied."""

    record: records.Component
    direction: LayerDirection

    @classmethod
    def read(cls, document: Mapping[str, Any], vector_file: bytes) -> Candidate:
        """`document` is the component without its range. Raises: FieldError; VectorFileError."""
        whole = {**document, "alpha_min": document["alpha"], "alpha_max": document["alpha"]}
        return cls(read_component(whole, "component"), read_direction(read_vector(vector_file)))

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
            **{name: value for name, value in self.record.stated().items() if name not in _NOT_JUDGED},
        }
