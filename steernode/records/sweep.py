"""The sweep of an extraction: the cells that were measured on the select split, and the one that was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from steernode.records.lenient import Document, read_mapping, read_mappings, read_number, read_words


@dataclass(frozen=True, slots=True)
class Cell:
    """One (layer, α), or no layer for the unsteered model. `values` are its metrics; `document` is the cell as it was written."""

    stage: str
    layer: int | None
    alpha: Decimal
    values: Mapping[str, Decimal]
    document: Document


@dataclass(frozen=True, slots=True)
class Nearest:
    """Of a search in which no cell passes, the one that came nearest: its place, and the sentence that says what stops it."""

    layer: int
    alpha: Decimal
    sentence: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """What the document holds of a search. `curve` is the dose-response of the chosen or nearest layer on the final stage, by rising α.

    `findings` are the sentences of the diagnostics: what was noticed of the contrast set, which layers were left out, and which cannot
    be told apart.
    """

    document: Document
    cells: tuple[Cell, ...]
    chosen: Cell | None
    nearest: Nearest | None
    curve: tuple[Cell, ...]
    findings: tuple[str, ...]

    @property
    def final_cells(self) -> tuple[Cell, ...]:
        """Those that replies were written in, the unsteered model first."""
        return tuple(cell for cell in self.cells if cell.stage == "final")

    @property
    def shown(self) -> tuple[int | None, Decimal] | None:
        """Where the cell is that the document shows more of: the chosen one, or else the nearest."""
        found = self.chosen or self.nearest
        return None if found is None else (found.layer, found.alpha)


def read_sweep(document: Document) -> Sweep:
    return Sweep(
        document=document,
        cells=read_cells(document.get("cells")),
        chosen=_read_cell(read_mapping(document, "chosen")),
        nearest=_read_nearest(read_mapping(document, "nearest")),
        curve=read_curve(document.get("curve")),
        findings=_read_findings(document),
    )


def _read_findings(document: Document) -> tuple[str, ...]:
    found = [*read_mappings(read_mapping(document, "diagnostics").get("findings")), read_mapping(document, "ties")]
    return tuple(sentence for each in found if (sentence := read_words(each, "sentence")))


def read_curve(value: Any) -> tuple[Cell, ...]:
    return tuple(sorted(read_cells(value), key=lambda cell: cell.alpha))


def read_cells(value: Any) -> tuple[Cell, ...]:
    """Those that have an α."""
    return tuple(cell for document in read_mappings(value) if (cell := _read_cell(document)) is not None)


def _read_nearest(document: Document) -> Nearest | None:
    alpha, layer = read_number(document.get("alpha")), document.get("layer")
    return Nearest(layer, alpha, read_words(document, "sentence")) if isinstance(layer, int) and alpha is not None else None


def _read_cell(document: Document) -> Cell | None:
    alpha, layer = read_number(document.get("alpha")), document.get("layer")
    if alpha is None:
        return None
    values = {name: number for name, value in document.items() if isinstance(value, str) and (number := read_number(value)) is not None}
    return Cell(
        stage=str(document.get("stage", "")), layer=layer if isinstance(layer, int) else None, alpha=alpha, values=values, document=document
    )
