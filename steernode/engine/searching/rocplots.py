"""The ROC curve of a probe on its test split, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from steernode.engine.searching.plots import render_png


def draw_roc(held_out: Mapping[str, Any], *, title: str) -> bytes:
    """True positives over false ones for every threshold; a point with its intervals where the probe's own threshold is."""
    curve = [(0.0, 0.0), *((float(point["false_positive_rate"]), float(point["true_positive_rate"])) for point in held_out["roc"])]
    hit, false = held_out["true_positive_rate"], held_out["false_positive_rate"]
    auc = held_out["auc"]
    figure = Figure(figsize=(5.2, 5.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="lightgrey", linestyle="--", label="chance")
    label = f"AUC {float(auc['value']):.3f} [{float(auc['low']):.3f}, {float(auc['high']):.3f}]"
    axes.step([x for x, _ in curve], [y for _, y in curve], where="post", color="tab:blue", label=label)
    x, y = float(false["value"]), float(hit["value"])
    axes.errorbar(
        x,
        y,
        xerr=[[x - float(false["low"])], [float(false["high"]) - x]],
        yerr=[[y - float(hit["low"])], [float(hit["high"]) - y]],
        fmt="o",
        color="tab:red",
        capsize=3,
        label=f"threshold: fires on {y:.0%} of positives, {x:.0%} of negatives",
    )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(f"false-positive rate ({held_out['negatives']} prompts)")
    axes.set_ylabel(f"true-positive rate ({held_out['positives']} prompts)")
    axes.set_title(f"{title}\non prompts that nothing was chosen by", fontsize=10)
    axes.legend(loc="lower right", fontsize=8)
    return render_png(figure)
