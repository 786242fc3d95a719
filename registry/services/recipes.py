"""Recipes: what a job is asked to do, checked whole before any worker time is spent."""

from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Any

from registry.errors import InvalidInput
from registry.models import BaseModel, Profile, Site, Unit
from registry.models.fields import NAME, refuse_rounding
from registry.reads.gates import find_gate_set, say_known
from registry.services.conditions import parse_recipe_condition
from steernode.canonical import format_decimal, parse_alpha, parse_layer
from steernode.errors import AlphaError
from steernode.gates import MOST_GATES, Gate, candidate_layers, check_gates, gate_sets
from steernode.placement import AUTO, DTYPE_BYTES, choose_dtype
from steernode.records.decoding import GREEDY_WORD, read_decoding
from steernode.records.recipe import ExtractionRecipe, ValidationRecipe
from steernode.spelling import says_something
from steernode.strict import read_template_arguments, refused_as
from steernode.words import ALPHA_CAPS, AUTO_ALPHAS, DTYPES, MAX_SYSTEM_MESSAGE, METHODS, READ_POSITIONS

MAX_ALPHAS = 32
# The layers that the recipe's own gates do not refuse for their depth, and every one.
LAYER_NAMES = ("candidates", "all")
# What the model is run in: its own dtype, or one by name.
MODEL_DTYPES = (AUTO, *DTYPE_BYTES)
Gates = str | tuple[Gate, ...]


def parse_extraction_recipe(recipe: dict[str, Any], base_model: BaseModel) -> ExtractionRecipe:
    """The recipe with every default filled in; coefficients as decimal strings, layers as integers.

    Raises: InvalidInput RECIPE_*; GateError GATE_INVALID; LayerError LAYER_RANGE; AlphaError ALPHA_FORMAT, ALPHA_RANGE, ALPHA_GRID;
    as `parse_recipe_condition`.
    """
    # Which set the gates are is found here, and nobody's to say.
    unknown = sorted(set(recipe) - {field.name for field in fields(ExtractionRecipe) if field.name != "gate_set"})
    if unknown:
        raise InvalidInput("RECIPE_UNKNOWN_FIELD", f"a recipe has no field {unknown[0]!r}", unknown[0])
    if not isinstance(recipe.get("vector"), str) or not NAME.fullmatch(recipe["vector"]):
        raise InvalidInput("RECIPE_VECTOR", "a recipe names the vector it makes, in letters, digits, '-' and '_'", "vector")
    site = read_choice(recipe, "site", (Site.RESID_POST.value, *(value for value in Site.values if value != Site.RESID_POST.value)))
    gates, gate_set = parse_gates(recipe.get("gates", "default"))
    layers = _parse_layers(recipe.get("layers", "candidates"), site, gates, base_model)
    arguments = parse_template_arguments(recipe.get("template_arguments", {}))
    return ExtractionRecipe(
        vector=recipe["vector"],
        method=read_choice(recipe, "method", METHODS),
        site=site,
        read_position=read_choice(recipe, "read_position", READ_POSITIONS),
        layers=layers,
        alphas=_parse_grid(recipe.get("alphas", AUTO_ALPHAS)),
        unit=read_choice(recipe, "unit", (Unit.MEAN_DIFFERENCE.value, Unit.RESIDUAL.value, Unit.ABSOLUTE.value)),
        gates=gates,
        dtype=read_choice(recipe, "dtype", DTYPES),
        max_new_tokens=_integer(recipe, "max_new_tokens", 64, 1, 1024),
        finalists=_integer(recipe, "finalists", 2, 1, base_model.n_layers),
        template_arguments=arguments,
        decoding=parse_decoding(recipe.get("decoding", GREEDY_WORD)),
        model_dtype=resolve_dtype(read_choice(recipe, "model_dtype", MODEL_DTYPES), base_model),
        gate_set=gate_set,
        trace=_switch(recipe, "trace"),
        system_message=_parse_system_message(recipe.get("system_message", "")),
        condition=parse_recipe_condition(recipe.get("condition"), base_model=base_model, layers=layers, template_arguments=arguments),
    )


@refused_as(InvalidInput, "RECIPE_TEMPLATE_ARGUMENTS")
def parse_template_arguments(arguments: Any) -> dict[str, str | int | bool]:
    """What the chat template is given beside the messages. Whether it reads them, only who has loaded it can say: the job does, at once.

    Raises: InvalidInput RECIPE_TEMPLATE_ARGUMENTS naming the argument.
    """
    return read_template_arguments(arguments, "template_arguments")


@refused_as(InvalidInput, "RECIPE_DECODING")
def parse_decoding(decoding: Any) -> str | dict[str, Any]:
    """How the replies of an evaluation are chosen, as its recipe keeps it. Raises: InvalidInput RECIPE_DECODING naming the field."""
    return read_decoding(decoding, "decoding").to_document()


def _parse_system_message(message: Any) -> str:
    """As it is served: line breaks and tabs are part of it, and nothing else that cannot be seen."""
    if not isinstance(message, str) or len(message) > MAX_SYSTEM_MESSAGE:
        raise InvalidInput("RECIPE_SYSTEM_MESSAGE", f"system_message is text of at most {MAX_SYSTEM_MESSAGE} characters", "system_message")
    unseen = next((each for each in message if not each.isprintable() and each not in "\n\t"), "")
    if unseen or (message and not says_something(message)):
        fault = f"holds {unseen!r}, which cannot be seen" if unseen else "says nothing; leave it out"
        raise InvalidInput("RECIPE_SYSTEM_MESSAGE", f"system_message {fault}", "system_message")
    return message


def refuse_beyond_cap(recipe: ExtractionRecipe, profile: Profile | None) -> None:
    """A coefficient that no approval could cover: of the profile's risk class, or of any class where no profile is named.

    Grids that are yet to be found keep to the cap by themselves, if it leaves any. Raises: InvalidInput RECIPE_ALPHA_CAP.
    """
    if profile is None:
        cap, whose = Decimal(ALPHA_CAPS[recipe.unit]), "the outermost cap"
    else:
        cap, whose = profile.risk_class.alpha_caps[recipe.unit], f"the cap of the risk class {profile.risk_class}"
    if isinstance(recipe.alphas, str):
        if cap == 0:
            raise InvalidInput(
                "RECIPE_ALPHA_CAP", f"{whose} leaves no α in the unit {recipe.unit}: nothing there could be approved", "unit"
            )
        return
    largest = max(recipe.alphas, key=lambda alpha: abs(Decimal(alpha)))
    if abs(Decimal(largest)) > cap:
        raise InvalidInput(
            "RECIPE_ALPHA_CAP",
            f"α = {largest} {recipe.unit} is beyond {whose}, {format_decimal(cap)}: what the search finds there could never be approved",
            "alphas",
        )


def resolve_dtype(wanted: str, base_model: BaseModel) -> str:
    """What the model is run in, as a recipe keeps it: by name, so that it does not depend on which worker takes the job."""
    return choose_dtype(wanted, str(base_model.manifest.get("dtype", "float32")))


def ask_again(recipe: ExtractionRecipe, base_model: BaseModel) -> dict[str, Any]:
    """The recipe as its author would ask for it: layers and gates by name where they have one."""
    asked = {name: value for name, value in recipe.to_document().items() if name != "gate_set"}
    return {**asked, "layers": name_layers(recipe, base_model), "gates": name_gates(recipe)}


def name_layers(recipe: ExtractionRecipe, base_model: BaseModel) -> str | list[int]:
    """The layers of a recipe as its author would ask for them: by name, or as they are if they are a choice of their own.

    Where the gates refuse no layer of this model, all are candidates.
    """
    own = list(recipe.layers)
    return next((name for name, layers in _named_layers(recipe.site, recipe.gates, base_model).items() if layers == own), own)


def _parse_layers(layers: Any, site: str, gates: Gates, base_model: BaseModel) -> tuple[int, ...]:
    if layers in LAYER_NAMES:
        layers = _named_layers(site, gates, base_model)[layers]
    if not isinstance(layers, list) or not layers:
        known = ", ".join(LAYER_NAMES)
        raise InvalidInput("RECIPE_LAYERS", f"layers is {known} or a list, and the gates leave one at least; got {layers!r}", "layers")
    return tuple(sorted({parse_layer(layer, base_model.n_layers) for layer in layers}))


def _named_layers(site: str, gates: Gates, base_model: BaseModel) -> dict[str, list[int]]:
    # The embedding is one place, before layer 0.
    every = [0] if site == Site.EMBEDDING.value else list(range(base_model.n_layers))
    allowed = candidate_layers(base_model.n_layers, gates)
    return {"candidates": [layer for layer in every if layer in allowed], "all": every}


def _parse_grid(alphas: Any) -> str | tuple[str, ...]:
    """Each layer's own, by how far it moves the next token, or one grid for all."""
    if alphas == AUTO_ALPHAS:
        return AUTO_ALPHAS
    if not isinstance(alphas, list) or not 2 <= len(alphas) <= MAX_ALPHAS:
        raise AlphaError("ALPHA_GRID", f"alphas is {AUTO_ALPHAS} or a list of 2 to {MAX_ALPHAS} coefficients", "alphas")
    grid = sorted({refuse_rounding(parse_alpha(alpha)) for alpha in alphas})
    if 0 not in grid:
        raise AlphaError("ALPHA_GRID", "the α grid needs 0, the unsteered baseline", "alphas")
    return tuple(format_decimal(alpha) for alpha in grid)


def parse_gates(gates: Any) -> tuple[tuple[Gate, ...], Mapping[str, Any]]:
    """The gates of a set, as it is now, and which it is; or at least one gate: a recipe without gates would pass whatever it makes.

    Raises: InvalidInput RECIPE_GATES; GateError GATE_INVALID naming the metric or the kind; AlphaError ALPHA_FORMAT.
    """
    if isinstance(gates, str) and (found := find_gate_set(gates)):
        return found.gates, found.named
    if not isinstance(gates, list) or not 1 <= len(gates) <= MOST_GATES or not all(_is_gate(gate) for gate in gates):
        raise InvalidInput(
            "RECIPE_GATES", f"gates is one of {say_known()}, or a list of gates, each with metric, kind and threshold as text", "gates"
        )
    check_gates(gates)
    return tuple(gates), {}


def name_gates(recipe: ExtractionRecipe | ValidationRecipe) -> Any:
    """The gates of a recipe as its author would ask for them: the set that they are, or as they are if they are its own."""
    if not recipe.gate_set:
        return recipe.gates if isinstance(recipe.gates, str) else list(recipe.gates)
    name = str(recipe.gate_set["name"])
    return name if name in gate_sets() else f"{name}@{recipe.gate_set['version']}"


def _is_gate(gate: Any) -> bool:
    if not isinstance(gate, dict) or set(gate) != {"metric", "kind", "threshold"}:
        return False
    return all(isinstance(value, str) for value in gate.values())


def read_choice(recipe: dict[str, Any], field: str, choices: tuple[str, ...]) -> str:
    value = recipe.get(field, choices[0])
    if not isinstance(value, str) or value not in choices:
        raise InvalidInput(f"RECIPE_{field.upper()}", f"{field} {value!r} is not one of {', '.join(choices)}", str(value))
    return str(value)


def _switch(recipe: dict[str, Any], field: str) -> bool:
    value = recipe.get(field, False)
    if not isinstance(value, bool):
        raise InvalidInput(f"RECIPE_{field.upper()}", f"{field} {value!r} is neither true nor false", str(value))
    return value


def _integer(recipe: dict[str, Any], field: str, default: int, low: int, high: int) -> int:
    value = recipe.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInput(f"RECIPE_{field.upper()}", f"{field} {value!r} is not an integer from {low} to {high}", str(value))
    return value
