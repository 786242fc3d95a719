"""What a search measured, whether or not it found a cell that passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from steernode.errors import EngineError

Document = dict[str, Any]
Cell = Document


@dataclass(frozen=True)
class Search:
    """What was measured. `layers` are the finalists, best first; `chosen` is the cell that `choose_cell` picked, if any passed.

    `nearest` is what `find_nearest` says where none did. `replies` are a few of the baseline and of the one cell or the other.
    """

    digest: str
    cells: tuple[Cell, ...]
    layers: tuple[int, ...]
    chosen: Cell | None
    nearest: Mapping[str, Any] | None
    replies: tuple[Mapping[str, Any], ...]
    # How each layer's grid was found, where the recipe gives none.
    doses: Mapping[str, Any] | None = None
    # Which layers cannot be told apart from the one that is shown, and what the rounds of the screen said of each.
    ties: Mapping[str, Any] | None = None
    rounds: tuple[Mapping[str, Any], ...] = ()

    @property
    def shown(self) -> Cell:
        """The cell that was chosen, or the one that came nearest."""
        if self.chosen is not None:
            return self.chosen
        place = None if self.nearest is None else (self.nearest["layer"], self.nearest["alpha"])
        return next(cell for cell in self.cells if cell["stage"] == "final" and (cell["layer"], cell["alpha"]) == place)

    def to_document(self) -> dict[str, Any]:
        """All of it as canonical JSON, with the dose-response of the layer that is shown; `records.sweep` reads it."""
        return {
            "schema": "steerhub.sweep/2",
            "digest": self.digest,
            "cells": list(self.cells),
            "finalists": list(self.layers),
            **({"chosen": self.chosen} if self.chosen else {}),
            **({"nearest": self.nearest} if self.nearest else {}),
            "curve": dose_response(self.cells, self.shown["layer"]),
            "replies": list(self.replies),
            **({"doses": self.doses} if self.doses else {}),
            **({"ties": self.ties} if self.ties else {}),
            "rounds": list(self.rounds),
        }


class SearchFailed(EngineError):
    """No cell passes every gate. `search` is everything that was measured all the same."""

    def __init__(self, message: str, search: Search) -> None:
        super().__init__("NO_CELL_PASSES", message)
        self.args = (message, search)
        self.search = search


def dose_response(cells: Sequence[Cell], layer: int) -> list[Cell]:
    """The baseline and one cell per α of this layer from the final stage, by rising α."""
    of_alpha = {cell["alpha"]: cell for cell in cells if cell["stage"] == "final" and cell["layer"] in (None, layer)}
    return sorted(of_alpha.values(), key=lambda cell: Decimal(cell["alpha"]))
