"""The search worker: our side of the grid and the sweep, and the judge that scores everybody's replies alike."""

from __future__ import annotations

# Before torch, because the engine tells OpenMP how to wait.
import steernode.engine  # noqa: F401

# isort: split
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.engine.ours import describe_versions
from benchmarks.engine.workloads import DATA
from benchmarks.processes import serve
from benchmarks.timing import clock
from steernode.canonical import format_decimal
from steernode.engine.access.models import load_model
from steernode.engine.applying.components import component_of
from steernode.engine.applying.generate import Reply, generate
from steernode.engine.measuring.gates import DEFAULT_GATES, choose_cell
from steernode.engine.measuring.items import EvalItems
from steernode.engine.measuring.margins import margin_items
from steernode.engine.measuring.metrics import measure_surprisal, score_replies
from steernode.engine.measuring.rubric import RubricScorer
from steernode.engine.measuring.stats import measure
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.engine.searching.recipe import SweepRecipe
from steernode.engine.searching.sweep import sweep
from steernode.errors import EngineError
from steernode.files.contrast import parse_pairs
from steernode.files.splits import split_pairs
from steernode.files.suites import SuiteFile, parse_rubric, parse_suite
from steernode.gates import layer_depth

SUITES = {"behaviour": "tickets.jsonl", "factual": "facts.jsonl", "safety": "refusals.jsonl"}
UNIT = "mean_difference"
# As many as an extraction job screens on.
SCREEN_PAIRS = 64


class Grid:
    """A grid of layers and α over the same prompts: `prompts` are (tickets, facts, requests) of the select split."""

    def __init__(self, folder: Path, threads: int, pairs: int, prompts: Sequence[int], alphas: Sequence[str], new_tokens: int) -> None:
        torch.set_num_threads(threads)
        self._loaded = load_model(folder)
        parts = split_pairs(parse_pairs((DATA / "empathy.pairs.jsonl").read_bytes()).pairs[:pairs])
        self._directions = extract_directions(self._loaded, parts["extract"], layers=range(self._loaded.n_layers))
        self._screen_pairs = parts["select"][:SCREEN_PAIRS]
        suites = {kind: parse_suite((DATA / name).read_bytes(), kind) for kind, name in SUITES.items()}
        self._items = EvalItems.of(suites, "select").subset(*prompts)
        chosen = {item.id for item in self._items.all}
        self._suites = {
            kind: SuiteFile(kind, tuple(item for item in suite.items if item.id in chosen), suite.digest) for kind, suite in suites.items()
        }
        rubric = parse_rubric((DATA / "empathy.rubric.jsonl").read_bytes())
        self._scorer = RubricScorer.train(rubric.examples, rubric.axis)
        self._alphas, self._new_tokens = tuple(alphas), new_tokens
        self._baseline: dict[str, Any] | None = None
        self._cells: dict[str, list[dict[str, Any]]] = {}

    def versions(self) -> dict[str, str]:
        return describe_versions()

    def describe(self) -> dict[str, Any]:
        return {"layers": self._loaded.n_layers, "alphas": self._alphas, "prompts": self._items.counts, "new_tokens": self._new_tokens}

    def export(self, vectors: str) -> list[list[dict[str, str]]]:
        """The conversations to answer; the vectors go to a file, scaled so that α 1 is one average difference."""
        arrays = {str(found.layer): (found.direction.double() * found.norm).float().numpy() for found in self._directions}
        np.savez(vectors, **arrays)
        return [[message.to_document() for message in conversation] for conversation in self._items.conversations]

    def run_layer(self, layer: int | None) -> dict[str, Any]:
        """Our exhaustive grid at one layer, all its α in the same batches. Seconds with and without scoring, and the replies."""
        alphas = ["0"] if layer is None else list(self._alphas)
        writing, replies = clock(lambda: self._generate(layer, alphas))
        scoring, _ = clock(lambda: self._score("ours", layer, alphas, replies))
        texts = [[reply.text for reply in replies[index :: len(alphas)]] for index in range(len(alphas))]
        return {"generate_s": writing, "score_s": scoring, "replies": texts}

    def score(self, side: str, layer: int | None, replies: list[list[str]]) -> dict[str, float]:
        """Scores another side's replies, α by α, as ours are scored. Seconds."""
        alphas = ["0"] if layer is None else list(self._alphas)
        written = [self._as_reply(texts[item]) for item in range(len(self._items.all)) for texts in replies]
        scoring, _ = clock(lambda: self._score(side, layer, alphas, written))
        return {"score_s": scoring}

    def choose(self, side: str) -> dict[str, Any]:
        """What the gates and the rule of choice make of a side's cells."""
        return _chosen(lambda: choose_cell(self._cells[side], DEFAULT_GATES))

    def sweep(self, layers: list[int]) -> dict[str, Any]:
        """Our search on the same grid: seconds, the contrast items it screens with included, and what it chose."""
        alphas = ("0", *self._alphas)
        recipe = SweepRecipe(layers=tuple(layers), alphas=alphas, unit=UNIT, max_new_tokens=self._new_tokens, refine=False)

        def search() -> dict[str, Any]:
            items = margin_items(self._loaded, self._screen_pairs)
            return _chosen(lambda: sweep(self._loaded, self._directions, self._suites, self._scorer, recipe, items=items).chosen)

        seconds, chosen = clock(search)
        return {"seconds": seconds, "chosen": chosen}

    def _generate(self, layer: int | None, alphas: Sequence[str]) -> list[Reply]:
        """Item by item, and within an item α by α."""
        components, rows = [], None
        if layer is not None:
            direction = self._direction(layer)
            components = [component_of(direction, "0", UNIT)]
            coefficients = [component_of(direction, alpha, UNIT).coefficient for alpha in alphas]
            rows = torch.tensor(coefficients, dtype=torch.float32).repeat(len(self._items.all))[:, None]
        conversations = [messages for messages in self._items.conversations for _ in alphas]
        return generate(self._loaded, conversations, components=components, row_coefficients=rows, max_new_tokens=self._new_tokens)

    def _direction(self, layer: int) -> LayerDirection:
        return next(found for found in self._directions if found.layer == layer)

    def _as_reply(self, text: str) -> Reply:
        """A reply of another library. A reply shorter than the limit ended by itself."""
        token_ids = tuple(self._loaded.tokenizer(text, add_special_tokens=False)["input_ids"])
        [end, *_] = self._loaded.end_token_ids
        return Reply(text, token_ids, end if len(token_ids) < self._new_tokens else None, 0, 0.0)

    def _score(self, side: str, layer: int | None, alphas: Sequence[str], replies: Sequence[Reply]) -> None:
        items = self._items
        tickets = [item.messages for item in items.behaviour for _ in alphas]
        nats, tokens = measure_surprisal(self._loaded, tickets, replies[: len(tickets)])
        for index, alpha in enumerate(alphas):
            own = slice(index, None, len(alphas))
            scores = score_replies(items, replies[own], self._scorer, (nats[own], tokens[own]))
            baseline = next((cell for cell in self._cells.get(side, []) if cell["layer"] is None), None)
            own_perplexity = scores.perplexity if baseline is None else float(baseline["perplexity"])
            cell = {
                "stage": "final",
                "layer": layer,
                "layer_depth": "0" if layer is None else format_decimal(layer_depth(layer, self._loaded.n_layers)),
                "alpha": alpha,
                "behaviour": measure(float(scores.behaviour.mean())),
                "facts": measure(float(scores.facts.mean())),
                "refusals": measure(float(scores.refusals.mean())),
                "perplexity": measure(scores.perplexity),
                "perplexity_ratio": measure(scores.perplexity / own_perplexity),
                "repetition": measure(float(scores.repetition.mean())),
            }
            # A second pass over the grid measures its time again, not its cells.
            known = [other for other in self._cells.get(side, []) if (other["layer"], other["alpha"]) != (layer, alpha)]
            self._cells[side] = [*known, cell]


def _chosen(choose: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The cell, or why there is none: a choice that every side may come to."""
    try:
        cell = choose()
    except EngineError as error:
        if error.code != "NO_CELL_PASSES":
            raise
        return {"layer": None, "alpha": None, "why": str(error)}
    return {name: cell[name] for name in ("layer", "alpha", "behaviour", "facts", "refusals", "perplexity_ratio")}


def main() -> None:
    folder, threads, pairs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    prompts, alphas, new_tokens = [int(count) for count in sys.argv[4].split(",")], sys.argv[5].split(","), int(sys.argv[6])
    grid = Grid(folder, threads, pairs, prompts, alphas, new_tokens)
    serve({name: getattr(grid, name) for name in ("versions", "describe", "export", "run_layer", "score", "choose", "sweep")})


if __name__ == "__main__":
    main()
