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

from steerkit.errors import EngineError


def draw_heat_map(
    cells: Sequence[Mapping[str, Any]], *, title: str, metric: str = "behaviour", chosen: Mapping[str, Any] | None = None
) -> bytes:
    """`metric` over layer and α as screened, with the value in every cell and the chosen one outlined. α = 0 is the baseline.

    Raises: EngineError CELLS_MISSING if no cell of the screening stage is there.
    """
    screened = [cell for cell in cells if cell["stage"] == "screen"]
    baseline = next((cell for cell in screened if cell["layer"] is None), None)
    layers = sorted({cell["layer"] for cell in screened if cell["layer"] is not None})
    if baseline is None or not layers:
        raise EngineError("CELLS_MISSING", "there are no screened cells to draw; run the sweep first")
    alphas = sorted({Decimal(cell["alpha"]) for cell in screened})
    values = np.full((len(layers), len(alphas)), np.nan)
    values[:, alphas.index(Decimal(0))] = float(baseline[metric])
    for cell in screened:
        if cell["layer"] is not None:
            values[layers.index(cell["layer"]), alphas.index(Decimal(cell["alpha"]))] = float(cell[metric])

    # A figure of our own and never pyplot, whose global state is neither thread-safe nor freed.
    figure = Figure(figsize=(1.6 + 0.85 * len(alphas), 1.6 + 0.42 * len(layers)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, aspect="auto", cmap="viridis", origin="lower")
    _write_values(axes, values)
    axes.set_xticks(range(len(alphas)), [f"{alpha:f}" for alpha in alphas])
    axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
    axes.set_xlabel(f"coefficient α ({str(baseline['unit']).replace('_', ' ')})")
    axes.set_ylabel("layer")
    axes.set_title(title)
    figure.colorbar(image, ax=axes, label=metric.replace("_", " "))
    if chosen is not None and chosen["layer"] in layers and Decimal(chosen["alpha"]) in alphas:
        column, row = alphas.index(Decimal(chosen["alpha"])), layers.index(chosen["layer"])
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2.5))
    stream = io.BytesIO()
    # Without the software stamp the same cells give the same bytes, and so the same digest.
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return stream.getvalue()


def _write_values(axes: Any, values: np.ndarray[Any, Any]) -> None:
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color="black" if value > middle else "white")
