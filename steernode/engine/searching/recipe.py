"""The recipe of a sweep: what to try and on how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from steernode.canonical import format_decimal, parse_alpha, parse_layer
from steernode.engine.applying.operators import check_operator
from steernode.engine.applying.positions import check_scope
from steernode.engine.measuring.gates import DEFAULT_GATES
from steernode.errors import EngineError
from steernode.gates import candidate_layers, check_gates
from steernode.records.recipe import Recipe
from steernode.words import AUTO_ALPHAS, STRENGTH_OPERATORS, UNITS

DEFAULT_ALPHAS = ("0", "0.2", "0.3", "0.4", "0.5", "0.6")
SCREENS = ("margins", "none")


@dataclass(frozen=True)
class SweepRecipe(Recipe):
    """`layers` None means those that the gates do not refuse for their depth. `alphas` are one grid for all layers, or `auto`: each
    layer's own, of doses that move the next token equally far (`doses.py`).

    With the screen `margins`, every layer is first measured by teacher forcing, without generating: rounds of `screen_items`
    contrast items, then twice as many on the better half of the layers, until `finalists` are left. A layer is worth the shift of
    the margin that it buys with `screen_kl` nats of divergence (95th percentile over tokens) or less. Only the finalists are
    then generated with, over the whole grid and on the whole select split, and with `refine` half-way between their best α and
    its neighbours. With the screen `none` every layer is a finalist: the exhaustive grid.
    """

    layers: tuple[int, ...] | None = None
    alphas: str | tuple[str, ...] = DEFAULT_ALPHAS
    unit: str = "mean_difference"
    operator: str = "add"
    scope: str = "generated"
    screen: str = "margins"
    screen_items: int = 16
    screen_kl: str = "0.5"
    finalists: int = 2
    refine: bool = True
    max_new_tokens: int = 64
    gates: tuple[Mapping[str, str], ...] = DEFAULT_GATES

    def __post_init__(self) -> None:
        alphas = self._parse_grid()
        if self.unit not in UNITS:
            raise EngineError("UNIT_UNKNOWN", f"unit {self.unit!r} is not known; known are {', '.join(UNITS)}", self.unit)
        check_scope(self.scope)
        check_operator(self.operator)
        is_strength = self.operator in STRENGTH_OPERATORS
        if is_strength and (self.is_auto or self.unit != "absolute" or not all(0 <= alpha <= 1 for alpha in alphas)):
            raise EngineError(
                "ALPHA_GRID",
                f"{self.operator} has a strength from 0 to 1 and no dose; search it in the unit 'absolute', from 0 to 1",
                "alphas",
            )
        if self.operator == "clamp":
            raise EngineError("RECIPE_INVALID", "a clamp needs a bound, which no search here finds; search 'add' or 'ablate'", "operator")
        if self.screen not in SCREENS:
            raise EngineError("RECIPE_INVALID", f"screen {self.screen!r} is not known; known are {', '.join(SCREENS)}", "screen")
        if parse_alpha(self.screen_kl) <= 0:
            raise EngineError("RECIPE_INVALID", f"screen_kl must be above 0 nats, got {self.screen_kl}", "screen_kl")
        if self.layers is not None and not self.layers:
            raise EngineError("LAYERS_EMPTY", "no layers to search; name at least one", "layers")
        check_gates(self.gates)
        for name in ("screen_items", "finalists", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise EngineError("RECIPE_INVALID", f"{name} must be at least 1, got {getattr(self, name)}", name)

    @property
    def is_auto(self) -> bool:
        """Whether each layer has a grid of its own, that is yet to be found."""
        return self.alphas == AUTO_ALPHAS

    def steered_alphas(self) -> list[str]:
        """The grid without 0, as written in cells; nothing of a grid that is yet to be found."""
        return [format_decimal(alpha) for alpha in self._parse_grid() if alpha]

    def _parse_grid(self) -> list[Decimal]:
        if self.is_auto:
            return []
        if isinstance(self.alphas, str):
            raise EngineError("ALPHA_GRID", f"the α grid is {AUTO_ALPHAS} or a list of coefficients, not {self.alphas!r}", "alphas")
        alphas = [parse_alpha(alpha) for alpha in self.alphas]
        if 0 not in alphas or len(set(alphas)) != len(alphas) or len(alphas) < 2:
            raise EngineError("ALPHA_GRID", f"the α grid {', '.join(self.alphas)} needs 0, at least one more, and no value twice", "alphas")
        return alphas

    def resolve_layers(self, n_layers: int) -> tuple[int, ...]:
        """Raises: LayerError LAYER_RANGE; EngineError LAYERS_EMPTY if the gates refuse every layer."""
        if self.layers is not None:
            return tuple(sorted({parse_layer(layer, n_layers) for layer in self.layers}))
        candidates = candidate_layers(n_layers, self.gates)
        if not candidates:
            raise EngineError("LAYERS_EMPTY", f"the gates refuse every one of {n_layers} layers for its depth", "gates")
        return tuple(candidates)
