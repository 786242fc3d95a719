"""Which layers a search cannot tell apart: what was measured of each, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steernode.engine.measuring.stats import measure
from steernode.engine.searching.recipe import SweepRecipe
from steernode.engine.searching.screen import bought_shift, rank_layers

Cell = Mapping[str, Any]


def describe_rounds(cells: Sequence[Cell], recipe: SweepRecipe) -> list[dict[str, Any]]:
    """Of each round of the screen: the layers, best first, with the shift that each buys and its interval, in nats."""
    rounds: dict[int, list[Cell]] = {}
    for cell in cells:
        if cell["stage"] == "screen":
            rounds.setdefault(cell["round"], []).append(cell)
    found = []
    for number, own in sorted(rounds.items()):
        layers = [_describe(own, layer, recipe) for layer in rank_layers(own, recipe)]
        found.append({"round": number, "items": own[0]["items"]["margins"], "layers": layers})
    return found


def find_ties(cells: Sequence[Cell], shown: Cell, recipe: SweepRecipe) -> dict[str, Any]:
    """The layers, the shown one among them, that nothing tells apart from it, rising; and a sentence where there are several.

    What replies say counts for the layers that have some: one ties whose best cell passes as many gates, with a behaviour whose interval
    overlaps the shown one's. For the others it is the last round of the screen in which both were measured.
    """
    own, final = shown["layer"], [cell for cell in cells if cell["stage"] == "final" and cell["layer"] is not None]
    replied = {cell["layer"] for cell in final}
    tied = [layer for layer in replied - {own} if _ties_in_replies([cell for cell in final if cell["layer"] == layer], shown)]
    rounds = describe_rounds(cells, recipe)
    screened = [layer for layer in _met(rounds, own) if layer not in replied and _ties_in_screen(rounds, own, layer)]
    layers = sorted({own, *tied, *screened})
    if len(layers) == 1:
        return {"layers": layers, "sentence": ""}
    said = f"layers {', '.join(map(str, layers[:-1]))} and {layers[-1]} cannot be told apart: their intervals overlap"
    if screened:
        said += f"; no replies were written with {', '.join(map(str, sorted(screened)))}"
    return {"layers": layers, "sentence": said}


def _describe(cells: Sequence[Cell], layer: int, recipe: SweepRecipe) -> dict[str, Any]:
    own, kl = [cell for cell in cells if cell["layer"] == layer], float(recipe.screen_kl)
    low, high = sorted(bought_shift(own, kl, f"margin_shift_{end}") for end in ("low", "high"))
    return {"layer": layer, "shift": measure(bought_shift(own, kl)), "low": measure(low), "high": measure(high)}


def _met(rounds: Sequence[Mapping[str, Any]], own: int) -> set[int]:
    together = [{row["layer"] for row in each["layers"]} for each in rounds]
    return set().union(*(layers for layers in together if own in layers)) - {own}


def _ties_in_screen(rounds: Sequence[Mapping[str, Any]], own: int, other: int) -> bool:
    last = [of_layer for each in rounds if {own, other} <= (of_layer := {row["layer"]: row for row in each["layers"]}).keys()][-1]
    return max(float(last[layer]["low"]) for layer in (own, other)) <= min(float(last[layer]["high"]) for layer in (own, other))


def _ties_in_replies(cells: Sequence[Cell], shown: Cell) -> bool:
    best = max(cells, key=lambda cell: (_passed(cell), float(cell["behaviour"])))
    low, high = ([float(cell[f"behaviour_{end}"]) for cell in (best, shown)] for end in ("low", "high"))
    return _passed(best) >= _passed(shown) and max(low) <= min(high)


def _passed(cell: Cell) -> int:
    return sum(gate["verdict"] == "pass" for gate in cell["gates"])
