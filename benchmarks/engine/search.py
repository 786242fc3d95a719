"""The search for a layer and a coefficient: the loop a user of steering-vectors writes, our exhaustive grid, and our sweep."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.engine.effort import Effort
from benchmarks.engine.workloads import Texts
from benchmarks.processes import Worker
from benchmarks.timing import ratio, summarize

ALPHAS = ("0.1", "0.15", "0.2", "0.25", "0.3", "0.35", "0.4", "0.5")
# Tickets, facts and requests to refuse: 64 prompts.
PROMPTS = (32, 20, 12)
NEW_TOKENS = 48
BATCH_SIZES = (8, 16, 32, 64)


def measure_search(grid: Worker, peer: Worker, texts: Texts, effort: Effort) -> dict[str, Any]:
    """One full pass over layers × α × prompts per repeat would take the afternoon, so sides alternate layer by layer.

    A grid's seconds are the sum over the layers of the median over passes, baseline included.
    """
    with tempfile.TemporaryDirectory() as folder:
        vectors = str(Path(folder) / "vectors.npz")
        conversations = grid.ask("export", vectors=vectors)
        prompts = [texts.render(conversation) for conversation in conversations]
        shape = grid.ask("describe")
        layers: list[int | None] = [None, *effort.grid_layers(shape["layers"])]
        print(f"search: {len(layers) - 1} layers × {len(ALPHAS)} α × {len(prompts)} prompts", flush=True)

        def loop(layer: int | None, batch_size: int) -> dict[str, Any]:
            """One layer of the loop that a user writes: for every α, apply the vector and answer every prompt."""
            cells = [
                peer.ask(
                    "generate",
                    texts=prompts,
                    new_tokens=NEW_TOKENS,
                    ends=True,
                    batch_size=batch_size,
                    steering=None if layer is None else {"layer": layer, "alpha": float(alpha), "vectors": vectors},
                )
                for alpha in (ALPHAS if layer is not None else ("0",))
            ]
            return {"generate_s": sum(cell["seconds"] for cell in cells), "replies": [cell["replies"] for cell in cells]}

        tried = {size: min(loop(None, size)["generate_s"] for _ in range(3)) for size in BATCH_SIZES}
        batch_size = min(tried, key=lambda size: tried[size])
        grid.ask("run_layer", layer=None)
        runs = _alternate(layers, effort, grid, lambda layer: loop(layer, batch_size))
        cells = {side: grid.ask("choose", side=side) for side in ("ours", "steering-vectors")}
    exhaustive = {side: _grid_seconds(runs, side) for side in ("ours", "steering-vectors")}
    sweeps = [run["seconds"] for run in runs["sweep"]]
    chosen = runs["sweep"][-1]["chosen"]
    rounds = {side: [run["seconds"] for run in runs[side] if run["layer"] is not None] for side in ("ours", "steering-vectors")}
    return {
        "model": "reference",
        **shape,
        "layers_measured": len(layers) - 1,
        "peer_batch_size": batch_size,
        "peer_tried_s": {str(size): took for size, took in tried.items()},
        "passes": effort.grid_passes,
        "grid": {side: {"seconds": seconds, "generate_s": _grid_seconds(runs, side, "generate_s")} for side, seconds in exhaustive.items()},
        "grid_ratio": {**ratio(rounds["steering-vectors"], rounds["ours"]), "value": exhaustive["steering-vectors"] / exhaustive["ours"]},
        "sweep": summarize(sweeps),
        "sweep_ratio": {"value": exhaustive["steering-vectors"] / summarize(sweeps)["median_s"]},
        "chosen": {**cells, "sweep": chosen},
        "same_cell": {side: (cell["layer"], cell["alpha"]) == (chosen["layer"], chosen["alpha"]) for side, cell in cells.items()},
        "equal_replies": _equal_share(runs),
        "times": {side: [{k: v for k, v in run.items() if k != "replies"} for run in found] for side, found in runs.items()},
    }


def _alternate(
    layers: list[int | None], effort: Effort, grid: Worker, loop: Callable[[int | None], dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Rounds of: one layer of their loop, the same layer of our grid, and, until there are enough, one whole sweep of ours."""
    runs: dict[str, list[dict[str, Any]]] = {"steering-vectors": [], "ours": [], "sweep": []}
    for _ in range(effort.grid_passes):
        for layer in layers:
            theirs = loop(layer)
            theirs |= grid.ask("score", side="steering-vectors", layer=layer, replies=theirs["replies"])
            ours = grid.ask("run_layer", layer=layer)
            for side, run in (("steering-vectors", theirs), ("ours", ours)):
                runs[side].append({"layer": layer, "seconds": run["generate_s"] + run["score_s"], **run})
            if len(runs["sweep"]) < effort.repeats:
                runs["sweep"].append(grid.ask("sweep", layers=[layer for layer in layers if layer is not None]))
    return runs


def _grid_seconds(runs: dict[str, list[dict[str, Any]]], side: str, field: str = "seconds") -> float:
    of_layer: dict[int | None, list[float]] = {}
    for run in runs[side]:
        of_layer.setdefault(run["layer"], []).append(run[field])
    return sum(float(summarize(times)["median_s"]) for times in of_layer.values())


def _equal_share(runs: dict[str, list[dict[str, Any]]]) -> float:
    """How many replies of the two exhaustive grids are the same text. Below 1 where rounding tips a near tie between two tokens."""
    pairs = [
        (mine, yours)
        for ours, theirs in zip(runs["ours"], runs["steering-vectors"], strict=True)
        for row, other in zip(ours["replies"], theirs["replies"], strict=True)
        for mine, yours in zip(row, other, strict=True)
    ]
    return sum(mine == yours for mine, yours in pairs) / len(pairs)
