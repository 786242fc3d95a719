"""Generation side by side: what steering costs over not steering, here and in the peers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.engine.effort import Effort
from benchmarks.engine.extraction import Sides
from benchmarks.engine.workloads import BenchModel, Texts
from benchmarks.processes import Worker
from benchmarks.timing import alternate, ratio, summarize

BATCHES = (1, 16)
# A dose that changes replies and keeps them sane; what it says has no influence on the time of a fixed number of tokens.
ALPHA = 0.3


def measure_serving(sides: Sides, model: BenchModel, texts: Texts, effort: Effort) -> list[dict[str, Any]]:
    """One document per batch size. All replies have the same length, because nothing ends them."""
    with tempfile.TemporaryDirectory() as folder:
        vectors = str(Path(folder) / "vectors.npz")
        layer = model.candidates[-1]
        sides.ours.ask("extract", pairs=texts.system_contrast(8), layers=[layer], keep=vectors)
        steering = {"layer": layer, "alpha": ALPHA, "vectors": vectors}
        return [_measure_batch(sides, model, texts, rows, steering, effort) for rows in BATCHES]


def _measure_batch(sides: Sides, model: BenchModel, texts: Texts, rows: int, steering: dict[str, Any], effort: Effort) -> dict[str, Any]:
    new_tokens = effort.new_tokens[model.name]
    print(f"generate, {model.name}, batch {rows}: {new_tokens} tokens", flush=True)
    prompts = texts.prompts(rows)
    rendered = [texts.render([{"role": "user", "content": prompt}]) for prompt in prompts]

    def ask(worker: Worker, **arguments: Any) -> Callable[[], float]:
        return lambda: float(worker.ask("generate", new_tokens=new_tokens, **arguments)["seconds"])

    works = {
        "ours, unsteered": ask(sides.ours, texts=prompts, steering=None),
        "ours, one layer": ask(sides.ours, texts=prompts, steering=steering),
        "transformers, unsteered": ask(sides.bare, texts=rendered),
    }
    works |= {f"{peer}, one layer": ask(worker, texts=rendered, ends=False, steering=steering) for peer, worker in sides.peers.items()}
    if rows > 1:
        alphas = [ALPHA * (row + 1) / rows for row in range(rows)]
        works[f"ours, {rows} rows with {rows} α"] = ask(sides.ours, texts=prompts, steering=steering, alphas=alphas)
    times = alternate(works, repeats=effort.serving_repeats[model.name], warmups=effort.warmups[model.name])
    unsteered = times["ours, unsteered"]
    return {
        "model": model.name,
        "rows": rows,
        "new_tokens": new_tokens,
        "layer": steering["layer"],
        "sides": {
            side: summarize(seconds) | {"ms_per_token": 1000 * summarize(seconds)["median_s"] / new_tokens}
            for side, seconds in times.items()
        },
        "times_s": times,
        "over_unsteered": {
            side: ratio(times[side], unsteered) for side in times if side.startswith("ours") and times[side] is not unsteered
        },
        "over_peers": {peer: ratio(times[f"{peer}, one layer"], times["ours, one layer"]) for peer in sides.peers},
    }
