"""The heat map of a sweep, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from steernode.engine.measuring.gates import DEFAULT_GATES, judge_gates
from steernode.errors import EngineError


def draw_heat_map(
    cells: Sequence[Mapping[str, Any]],
    *,
    title: str,
    metric: str | None = None,
    chosen: Mapping[str, Any] | None = None,
    gates: Sequence[Mapping[str, str]] = DEFAULT_GATES,
) -> bytes:
    """`metric` over layer and α. α = 0 is the baseline; a cell that fails a gate is marked ×; the chosen one is outlined.

    Without a metric it is the margin shift of the screening stage, in which every layer was measured, and behaviour where there
    was no screening. The chosen α may lie between those of the grid; its column then is empty but for it. Where each layer has a grid
    of its own, a column is the divergence that its α are meant to reach, and each cell says its α. The share that a dose is of the
    stream stands below the value.

    Raises: EngineError CELLS_MISSING if no steered cell with this metric is there.
    """
    stage = "screen" if any(cell["stage"] == "screen" for cell in cells) else "final"
    metric = metric or ("margin_shift" if stage == "screen" else "behaviour")
    # Of the rounds that measured a cell the last one saw the most items.
    column = "target_kl" if any("target_kl" in cell for cell in cells) else "alpha"
    latest = {(cell["layer"], Decimal(cell[column])): cell for cell in cells if metric in cell}
    replied = {(cell["layer"], Decimal(cell[column])): cell for cell in cells if cell["stage"] == "final"}
    baseline = latest.get((None, Decimal(0)))
    layers = sorted({layer for layer, _ in latest if layer is not None})
    if baseline is None or not layers:
        raise EngineError("CELLS_MISSING", f"there are no cells with {metric} to draw; run the sweep first", metric)
    mark = None if chosen is None or chosen["layer"] not in layers else (chosen["layer"], Decimal(chosen[column]))
    alphas = sorted({alpha for _, alpha in latest} | ({mark[1]} if mark else set()))
    values = np.full((len(layers), len(alphas)), np.nan)
    passes = np.ones(values.shape, dtype=bool)
    values[:, alphas.index(Decimal(0))] = float(baseline[metric])
    for (layer, alpha), cell in latest.items():
        if layer is not None:
            place = layers.index(layer), alphas.index(alpha)
            values[place] = float(cell[metric])
            # What the replies say counts, where there are replies.
            said = replied if (layer, alpha) in replied else latest
            judged = judge_gates(gates, said[layer, alpha], said[None, Decimal(0)])
            passes[place] = all(verdict["verdict"] == "pass" for verdict in judged)

    # A figure of our own and never pyplot, whose global state is neither thread-safe nor freed.
    figure = Figure(figsize=(1.6 + 0.85 * len(alphas), 1.6 + 0.42 * len(layers)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("lightgrey")
    image = axes.imshow(values, aspect="auto", cmap="viridis", origin="lower")
    notes = {(layers.index(layer), alphas.index(at)): _note(cell, column) for (layer, at), cell in latest.items() if layer is not None}
    _write_values(axes, values, passes, notes)
    axes.set_xticks(range(len(alphas)), [f"{alpha:f}" for alpha in alphas])
    axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
    unit = str(baseline["unit"]).replace("_", " ")
    axes.set_xlabel(f"coefficient α ({unit})" if column == "alpha" else f"KL per token that α ({unit}) is meant to reach, nats")
    axes.set_ylabel("layer")
    measured = "teacher-forced on contrast items" if metric in ("margin", "margin_shift") else "on replies to the select split"
    axes.set_title(f"{title}\n{measured}; × fails a gate", fontsize=10)
    figure.colorbar(image, ax=axes, label=metric.replace("_", " "))
    if mark is not None:
        position, row = alphas.index(mark[1]), layers.index(mark[0])
        axes.add_patch(Rectangle((position - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2.5))
    return render_png(figure)


def render_png(figure: Figure) -> bytes:
    """The figure's bytes. Without the software stamp the same drawing gives the same bytes, and so the same digest."""
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def _note(cell: Mapping[str, Any], column: str) -> str:
    """What stands below a value: its α where the column does not say it, and what share of the stream that is."""
    alpha = "" if column == "alpha" else f"α {cell['alpha']}"
    share = f"{100 * float(cell['dose']):.0f} %" if "dose" in cell else ""
    return ", ".join(filter(None, (alpha, share)))


def _write_values(axes: Any, values: np.ndarray[Any, Any], passes: np.ndarray[Any, Any], notes: Mapping[tuple[int, int], str]) -> None:
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            text = f"{value:.2f}" if passes[row, column] else f"{value:.2f} ×"
            if note := notes.get((row, column)):
                text += f"\n{note}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color="black" if value > middle else "white")
