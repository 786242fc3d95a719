"""Which axes of the demo have a window on the reference model, and why the others have none.

    python -m benchmarks.demo_axes

Each axis goes through the search that an extraction runs: directions from the extract split, a screen, replies of the two best layers
over a wide α grid on the select split, the gates of the demo. Where no cell passes, the report says which gate stopped how many, and the
causal trace says where the tone is carried. Writes var/bench/demo-axes.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.machine import describe_machine
from steernode.engine.access.models import LoadedModel, load_model
from steernode.engine.measuring.margins import margin_items
from steernode.engine.measuring.rubric import RubricScorer
from steernode.engine.reading.directions import extract_directions
from steernode.engine.searching.recipe import SweepRecipe
from steernode.engine.searching.sweep import sweep
from steernode.engine.searching.trace import trace_pairs
from steernode.engine.searching.tracereport import trace
from steernode.errors import EngineError
from steernode.files.contrast import parse_pairs
from steernode.files.splits import split_pairs
from steernode.files.suites import parse_rubric, parse_suite
from steernode.gates import load_gates

DATA = Path("demo/data")
AXES = ("empathy", "formality", "brevity")
ALPHAS = ("0", "0.2", "0.3", "0.4", "0.6")
SUITES = {"behaviour": "tickets", "factual": "facts", "safety": "refusals"}
SCREENED_PAIRS = 64
TRACED_PAIRS = 8


def main() -> int:
    loaded = load_model("demo/model")
    axes = {}
    for axis in AXES:
        axes[axis] = found = search_axis(loaded, axis)
        window = found["window"]
        if window:
            told = f"layer {window['layer']}, α {window['alpha']}: behaviour {found['baseline']} to {window['behaviour']}"
        else:
            told = f"no window: {found['why_not']}"
        print(f"{axis}: {told}")
        print(f"  recovered by patching, by layer: {found['trace']}", flush=True)
    report = {"machine": describe_machine(), "model_fingerprint": loaded.fingerprint, "gates": "style_small_suite", "axes": axes}
    folder = Path("var/bench")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "demo-axes.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return 0


def search_axis(loaded: LoadedModel, axis: str) -> dict:
    parts = split_pairs(parse_pairs((DATA / f"{axis}.pairs.jsonl").read_bytes()).pairs)
    rubric = parse_rubric((DATA / f"{axis}.rubric.jsonl").read_bytes())
    cells: list[dict] = []
    window, why_not = None, ""
    try:
        searched = sweep(
            loaded,
            extract_directions(loaded, parts["extract"]),
            {kind: parse_suite((DATA / f"{name}.jsonl").read_bytes(), kind) for kind, name in SUITES.items()},
            RubricScorer.train(rubric.examples, rubric.axis),
            SweepRecipe(alphas=ALPHAS, finalists=2, gates=load_gates("style_small_suite")),
            items=margin_items(loaded, parts["select"][:SCREENED_PAIRS]),
            on_cell=cells.append,
        )
        window = searched.chosen
    except EngineError as error:
        if error.code != "NO_CELL_PASSES":
            raise
        why_not = error.message
    final = [cell for cell in cells if cell["stage"] == "final"]
    traced = trace(loaded, trace_pairs(loaded, parts["select"][:TRACED_PAIRS]))
    return {
        "baseline": next(cell["behaviour"] for cell in final if cell["layer"] is None),
        "window": window,
        "why_not": why_not,
        "cells": [
            {name: cell[name] for name in ("layer", "alpha", "behaviour", "facts", "refusals", "perplexity_ratio")} for cell in final
        ],
        "trace": {name: group["recovered"] for name, group in traced["groups"].items() if group["pairs"]},
    }


if __name__ == "__main__":
    sys.exit(main())
