"""The candidate of an evaluation: a stored vector and all that says how it would be applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from steernode.engine.applying.components import Component, component_of
from steernode.engine.applying.schedules import CONSTANT, Schedule
from steernode.engine.measuring.stats import measure
from steernode.engine.reading.directions import LayerDirection


@dataclass(frozen=True, eq=False)
class Candidate:
    """A stored vector at one α. `vector_digest` is the sha256 of the vector file."""

    vector_digest: str
    direction: LayerDirection
    alpha: str
    unit: str = "mean_difference"
    operator: str = "add"
    scope: str = "generated"
    schedule: Schedule = CONSTANT
    preserve_norm: bool = False
    bound: str | None = None

    def component(self) -> Component:
        return component_of(
            self.direction,
            self.alpha,
            self.unit,
            self.operator,
            self.scope,
            schedule=self.schedule,
            preserve_norm=self.preserve_norm,
            bound=self.bound,
        )

    def to_document(self) -> dict[str, Any]:
        return {
            "vector_digest": self.vector_digest,
            "layer": self.direction.layer,
            "site": self.direction.site,
            "operator": self.operator,
            "alpha": self.alpha,
            "unit": self.unit,
            "coefficient": measure(self.component().coefficient),
            "norm": measure(self.direction.norm),
            "mean_residual_norm": measure(self.direction.mean_residual_norm),
            "scope": self.scope,
            "schedule": {"kind": self.schedule.kind, **dict(self.schedule.parameters)},
            "preserve_norm": self.preserve_norm,
            "bound": self.bound,
            "method": self.direction.method,
            "read_position": self.direction.read_position,
        }
