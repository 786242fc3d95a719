"""The recipe of a sweep: what to try and on how much. A document, so that a job can be repeated from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from steerkit.canonical import format_decimal, parse_alpha, parse_layer
from steerkit.engine.gates import DEFAULT_GATES, check_gates
from steerkit.engine.operators import check_operator
from steerkit.engine.positions import SCOPES
from steerkit.errors import EngineError
from steerkit.snapshotrecords import UNITS

DEFAULT_ALPHAS = ("0", "0.2", "0.3", "0.4", "0.5", "0.6")


@dataclass(frozen=True)
class SweepRecipe:
    """`layers` None means all. The first stage screens every layer on small subsets of the select split; the best `finalists`
    layers are then measured on all of it, on a finer grid around their best α."""

    layers: tuple[int, ...] | None = None
    alphas: tuple[str, ...] = DEFAULT_ALPHAS
    unit: str = "mean_difference"
    operator: str = "add"
    scope: str = "generated"
    screen_behaviour: int = 16
    screen_facts: int = 24
    screen_refusals: int = 12
    finalists: int = 2
    max_new_tokens: int = 64
    gates: tuple[Mapping[str, str], ...] = DEFAULT_GATES

    def __post_init__(self) -> None:
        alphas = [parse_alpha(alpha) for alpha in self.alphas]
        if 0 not in alphas or len(set(alphas)) != len(alphas) or len(alphas) < 2:
            raise EngineError("ALPHA_GRID", f"the α grid {', '.join(self.alphas)} needs 0, at least one more, and no value twice", "alphas")
        if self.unit not in UNITS:
            raise EngineError("UNIT_UNKNOWN", f"unit {self.unit!r} is not known; known are {', '.join(UNITS)}", self.unit)
        if self.scope not in SCOPES:
            raise EngineError("SCOPE_UNKNOWN", f"token scope {self.scope!r} is not known; known are {', '.join(SCOPES)}", self.scope)
        check_operator(self.operator)
        check_gates(self.gates)
        for name in ("screen_behaviour", "screen_facts", "screen_refusals", "finalists", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise EngineError("RECIPE_INVALID", f"{name} must be at least 1, got {getattr(self, name)}", name)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> SweepRecipe:
        """Raises: EngineError RECIPE_INVALID for an unknown field, and the codes of the values."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(document) - known)
        if unknown:
            raise EngineError(
                "RECIPE_INVALID", f"unknown field {unknown[0]!r} in the recipe; known are {', '.join(sorted(known))}", unknown[0]
            )
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in document.items()}
        return cls(**values)

    def to_document(self) -> dict[str, Any]:
        lists = {"layers": None if self.layers is None else list(self.layers), "alphas": list(self.alphas)}
        return asdict(self) | lists | {"gates": [dict(gate) for gate in self.gates]}

    def steered_alphas(self) -> list[str]:
        """The grid without 0, as written in cells."""
        alphas = [parse_alpha(alpha) for alpha in self.alphas]
        return [format_decimal(alpha) for alpha in alphas if alpha]

    def resolve_layers(self, n_layers: int) -> tuple[int, ...]:
        wanted = range(n_layers) if self.layers is None else sorted({parse_layer(layer, n_layers) for layer in self.layers})
        return tuple(wanted)
