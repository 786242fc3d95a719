"""The heat map of a causal trace, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from steernode.engine.searching.plots import render_png
from steernode.engine.searching.tracereport import read_groups

_MOST_TOKENS = 60


def draw_trace(document: Mapping[str, Any], *, title: str) -> bytes:
    """What patching recovers by layer and group of tokens, and beside it by layer and token for the first pair traced in detail.

    Both share a scale on which 0 is the corrupt run and 1 the clean one; grey is a token that has no counterpart.
    """
    names, groups = read_groups(document)
    detailed = next((pair for pair in document["pairs"] if "tokens" in pair), None)
    tokens = detailed["tokens"][-_MOST_TOKENS:] if detailed else []
    widths = [max(2.6, 0.75 * len(names)), *([max(3.0, 0.24 * len(tokens))] if tokens else [])]
    # A figure of our own and never pyplot, whose global state is neither thread-safe nor freed.
    figure = Figure(figsize=(1.8 + sum(widths), 2.4 + 0.34 * document["layers"]), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    limit = max(1.0, float(np.nanmax(np.abs(groups))))
    scale = {"aspect": "auto", "cmap": "RdBu_r", "origin": "lower", "vmin": -limit, "vmax": limit}
    image = panels[0].imshow(groups, **scale)
    for (row, column), value in np.ndenumerate(groups):
        ink = "white" if abs(value) > 0.7 * limit else "black"
        panels[0].text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink)
    panels[0].set_xticks(range(len(names)), [f"{name}\n({document['groups'][name]['pairs']})" for name in names], fontsize=8)
    panels[0].set_ylabel("layer")
    panels[0].set_title("by group, mean over the (pairs) that have it", fontsize=9)
    if detailed:
        recovered = np.array([[np.nan if value is None else float(value) for value in token["recovered"]] for token in tokens]).T
        panels[1].set_facecolor("lightgrey")
        panels[1].imshow(recovered, **scale)
        panels[1].set_xticks(range(len(tokens)), [_show(token["text"]) for token in tokens], rotation=90, fontsize=7)
        panels[1].set_title(f"by token of pair {_show(detailed['id'])}", fontsize=9)
    for panel in panels:
        panel.set_yticks(range(document["layers"]))
    figure.suptitle(title, fontsize=10)
    figure.colorbar(image, ax=list(panels), label="recovered (0 corrupt, 1 clean)")
    return render_png(figure)


def _show(text: str) -> str:
    """At most 14 characters that the font has; a dollar would start a formula."""
    shown = "".join(each if each.isprintable() and ord(each) < 0x250 else "·" for each in text)
    return shown.strip()[:14].replace("$", r"\$") or "␣"
