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

from steerkit.engine.gates import DEFAULT_GATES, judge_gates
from steerkit.errors import EngineError


def draw_heat_map(
    cells: Sequence[Mapping[str, Any]],
    *,
    title: str,
    metric: str = "behaviour",
    chosen: Mapping[str, Any] | None = None,
    gates: Sequence[Mapping[str, str]] = DEFAULT_GATES,
) -> bytes:
    """`metric` over layer and α as screened. α = 0 is the baseline; a cell that fails a gate is marked ×; the chosen one is outlined.

    The chosen α may lie between those that were screened; it then has a column of its own.

    Raises: EngineError CELLS_MISSING if no cell of the screening stage is there.
    """
    shown = [cell for cell in cells if cell["stage"] == "screen"]
    baseline = next((cell for cell in shown if cell["layer"] is None), None)
    layers = sorted({cell["layer"] for cell in shown if cell["layer"] is not None})
    if baseline is None or not layers:
        raise EngineError("CELLS_MISSING", "there are no screened cells to draw; run the sweep first")
    alphas = sorted({Decimal(cell["alpha"]) for cell in (*shown, *([chosen] if chosen else []))})
    values = np.full((len(layers), len(alphas)), np.nan)
    passes = np.ones(values.shape, dtype=bool)
    values[:, alphas.index(Decimal(0))] = float(baseline[metric])
    for cell in (*shown, *([chosen] if chosen else [])):
        if cell["layer"] in layers:
            place = layers.index(cell["layer"]), alphas.index(Decimal(cell["alpha"]))
            values[place] = float(cell[metric])
            passes[place] = cell is chosen or all(judged["verdict"] == "pass" for judged in judge_gates(gates, cell, baseline))

    # A figure of our own and never pyplot, whose global state is neither thread-safe nor freed.
    figure = Figure(figsize=(1.6 + 0.85 * len(alphas), 1.6 + 0.42 * len(layers)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("lightgrey")
    image = axes.imshow(values, aspect="auto", cmap="viridis", origin="lower")
    _write_values(axes, values, passes)
    axes.set_xticks(range(len(alphas)), [f"{alpha:f}" for alpha in alphas])
    axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
    axes.set_xlabel(f"coefficient α ({str(baseline['unit']).replace('_', ' ')})")
    axes.set_ylabel("layer")
    axes.set_title(f"{title}\n× fails a gate on the screened subset", fontsize=10)
    figure.colorbar(image, ax=axes, label=metric.replace("_", " "))
    if chosen is not None and chosen["layer"] in layers:
        column, row = alphas.index(Decimal(chosen["alpha"])), layers.index(chosen["layer"])
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2.5))
    stream = io.BytesIO()
    # Without the software stamp the same cells give the same bytes, and so the same digest.
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return stream.getvalue()


def _write_values(axes: Any, values: np.ndarray[Any, Any], passes: np.ndarray[Any, Any]) -> None:
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            text = f"{value:.2f}" if passes[row, column] else f"{value:.2f} ×"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color="black" if value > middle else "white")
