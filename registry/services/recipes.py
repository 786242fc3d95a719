"""Recipes: what a job is asked to do, checked whole before any worker time is spent."""

from typing import Any

from registry.errors import InvalidInput
from registry.models import BaseModel, Site, Unit
from registry.models.fields import NAME, refuse_rounding
from steerkit.canonical import format_decimal, parse_alpha, parse_layer
from steerkit.errors import AlphaError
from steerkit.gates import gate_sets

METHODS = ("mean_difference", "pca_uncentred", "logistic_probe", "whitened_difference")
READ_POSITIONS = ("last_prompt_token", "assistant_tokens", "all")
DEFAULT_ALPHAS = ("0", "0.25", "0.4", "0.5", "0.6", "0.75", "1")
MAX_ALPHAS = 32

_EXTRACTION_FIELDS = {
    "vector", "method", "site", "read_position", "layers", "alphas", "unit", "gates", "seed", "max_new_tokens", "dtype",
    "finalists",
}  # fmt: skip


def parse_extraction_recipe(recipe: dict[str, Any], base_model: BaseModel) -> dict[str, Any]:
    """The recipe with every default filled in; coefficients as decimal strings, layers as integers.

    Raises: InvalidInput RECIPE_*; LayerError LAYER_RANGE; AlphaError ALPHA_FORMAT, ALPHA_RANGE, ALPHA_GRID.
    """
    unknown = sorted(set(recipe) - _EXTRACTION_FIELDS)
    if unknown:
        raise InvalidInput("RECIPE_UNKNOWN_FIELD", f"a recipe has no field {unknown[0]!r}", unknown[0])
    if not isinstance(recipe.get("vector"), str) or not NAME.fullmatch(recipe["vector"]):
        raise InvalidInput("RECIPE_VECTOR", "a recipe names the vector it makes, in letters, digits, '-' and '_'", "vector")
    site = _one_of(recipe, "site", (Site.RESID_POST.value, *(value for value in Site.values if value != Site.RESID_POST.value)))
    layers = recipe.get("layers", "all")
    if layers == "all":
        # The embedding is one place, before layer 0.
        layers = [0] if site == Site.EMBEDDING.value else list(range(base_model.n_layers))
    if not isinstance(layers, list) or not layers:
        raise InvalidInput("RECIPE_LAYERS", "layers is 'all' or a list of layers", "layers")
    return {
        "vector": recipe["vector"],
        "method": _one_of(recipe, "method", METHODS),
        "site": site,
        "read_position": _one_of(recipe, "read_position", READ_POSITIONS),
        "layers": sorted({parse_layer(layer, base_model.n_layers) for layer in layers}),
        "alphas": _parse_grid(recipe.get("alphas", list(DEFAULT_ALPHAS))),
        "unit": _one_of(recipe, "unit", (Unit.MEAN_DIFFERENCE.value, Unit.RESIDUAL.value, Unit.ABSOLUTE.value)),
        "gates": _parse_gates(recipe.get("gates", "default")),
        "dtype": _one_of(recipe, "dtype", ("F32", "F16", "BF16")),
        "seed": _integer(recipe, "seed", 0, 0, 2**31 - 1),
        "max_new_tokens": _integer(recipe, "max_new_tokens", 64, 1, 1024),
        # How many layers of the screened ones are measured on the whole select split.
        "finalists": _integer(recipe, "finalists", 2, 1, base_model.n_layers),
    }


def _parse_grid(alphas: Any) -> list[str]:
    if not isinstance(alphas, list) or not 2 <= len(alphas) <= MAX_ALPHAS:
        raise AlphaError("ALPHA_GRID", f"alphas is a list of 2 to {MAX_ALPHAS} coefficients", "alphas")
    grid = sorted({refuse_rounding(parse_alpha(alpha)) for alpha in alphas})
    if 0 not in grid:
        raise AlphaError("ALPHA_GRID", "the α grid needs 0, the unsteered baseline", "alphas")
    return [format_decimal(alpha) for alpha in grid]


def _parse_gates(gates: Any) -> Any:
    """The name of a set, or at least one gate: a recipe without gates would pass whatever it makes."""
    if isinstance(gates, str) and gates in gate_sets():
        return gates
    if not isinstance(gates, list) or not gates or not all(_is_gate(gate) for gate in gates):
        raise InvalidInput(
            "RECIPE_GATES",
            f"gates is one of {', '.join(gate_sets())}, or a list of gates, each with metric, kind and threshold as text",
            "gates",
        )
    for gate in gates:
        parse_alpha(gate["threshold"])
    return gates


def _is_gate(gate: Any) -> bool:
    if not isinstance(gate, dict) or set(gate) != {"metric", "kind", "threshold"}:
        return False
    return all(isinstance(value, str) for value in gate.values())


def _one_of(recipe: dict[str, Any], field: str, choices: tuple[str, ...]) -> str:
    value = recipe.get(field, choices[0])
    if not isinstance(value, str) or value not in choices:
        raise InvalidInput(f"RECIPE_{field.upper()}", f"{field} {value!r} is not one of {', '.join(choices)}", str(value))
    return str(value)


def _integer(recipe: dict[str, Any], field: str, default: int, low: int, high: int) -> int:
    value = recipe.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInput(f"RECIPE_{field.upper()}", f"{field} {value!r} is not an integer from {low} to {high}", str(value))
    return value
