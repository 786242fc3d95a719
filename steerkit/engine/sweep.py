"""The sweep: every layer on a small subset, then the best few on the whole select split, over a grid of α.

A cell is one (layer, α) and a plain document with decimal strings, so that a job can store each when it is measured and go on
after an interruption without measuring it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

import torch

from steerkit.canonical import canonical_json, format_decimal, format_measure, parse_alpha, sha256_hex
from steerkit.effective import absolute_coefficient
from steerkit.engine.capture import Progress
from steerkit.engine.directions import LayerDirection
from steerkit.engine.gates import choose_cell, judge_gates
from steerkit.engine.generate import Reply, generate
from steerkit.engine.metrics import EvalItems, ReplyScores, Scorer, measure_surprisal, score_replies
from steerkit.engine.models import LoadedModel
from steerkit.engine.recipe import SweepRecipe
from steerkit.engine.stats import measure
from steerkit.engine.steer import Component
from steerkit.errors import EngineError
from steerkit.suite import SuiteFile

Cell = dict[str, Any]
OnCell = Callable[[Cell], None]


@dataclass(frozen=True)
class Sweep:
    """What was measured. `layers` are the finalists, best first; `chosen` is the cell that `choose_cell` picked."""

    digest: str
    cells: tuple[Cell, ...]
    layers: tuple[int, ...]
    chosen: Cell

    def to_document(self) -> dict[str, Any]:
        """All of it as canonical JSON, with the dose-response of the chosen layer ready for plots."""
        return {
            "schema": "steerhub.sweep/1",
            "digest": self.digest,
            "cells": list(self.cells),
            "finalists": list(self.layers),
            "chosen": self.chosen,
            "curve": self.curve(self.chosen["layer"]),
        }

    def curve(self, layer: int) -> list[Cell]:
        """The dose-response of one layer with the baseline, by rising α: final cells, and screened ones where there is no final."""
        return dose_response(self.cells, layer)


def dose_response(cells: Sequence[Cell], layer: int) -> list[Cell]:
    """One cell per α of this layer, from the larger of the two stages that measured it, by rising α. Each says on how many items."""
    of_alpha: dict[str, Cell] = {}
    for stage in ("screen", "final"):
        of_alpha |= {cell["alpha"]: cell for cell in cells if cell["stage"] == stage and cell["layer"] in (None, layer)}
    return sorted(of_alpha.values(), key=lambda cell: Decimal(cell["alpha"]))


def digest_sweep(loaded: LoadedModel, suites: Mapping[str, SuiteFile], scorer: Scorer, recipe: SweepRecipe) -> str:
    """What a cell must have in common with a sweep to be reused by it."""
    identity = {
        "base_model_fingerprint": loaded.fingerprint,
        "suites": {kind: suite.digest for kind, suite in suites.items()},
        "scorer": dict(scorer.description),
        "recipe": recipe.to_document(),
    }
    return sha256_hex(canonical_json(identity))


def coefficient_of(direction: LayerDirection, alpha: str, unit: str) -> Decimal:
    """The factor on the unit direction, from the same rounded norms that the vector file and the snapshot will carry."""
    norm, residual = Decimal(format_measure(direction.norm)), Decimal(format_measure(direction.mean_residual_norm))
    return absolute_coefficient(Decimal(alpha), unit=unit, norm=norm, mean_residual_norm=residual)


def sweep(
    loaded: LoadedModel,
    directions: Sequence[LayerDirection],
    suites: Mapping[str, SuiteFile],
    scorer: Scorer,
    recipe: SweepRecipe,
    *,
    on_progress: Progress | None = None,
    done_cells: Sequence[Cell] = (),
    on_cell: OnCell | None = None,
) -> Sweep:
    """Measures the grid on the select split and chooses a cell. `on_progress(done, total)` counts replies.

    `done_cells` are cells of an earlier attempt and are not measured again; `on_cell` is called with each new cell.

    Raises: EngineError NO_CELL_PASSES, CHECKPOINT_MISMATCH if a done cell belongs to another sweep, DIRECTION_MISSING,
    SUITE_MISSING, and the codes of `generate`.
    """
    run = _Run(loaded, directions, suites, scorer, recipe, done_cells, on_progress, on_cell)
    layers = recipe.resolve_layers(loaded.n_layers)
    run.measure("screen", dict.fromkeys(layers, recipe.steered_alphas()))
    finalists = choose_finalists(run.cells, recipe)
    run.measure("final", {layer: refine_alphas(run.cells, layer, recipe) for layer in finalists})
    return Sweep(run.digest, tuple(run.cells), tuple(finalists), choose_cell(run.cells, recipe.gates))


def choose_finalists(cells: Sequence[Cell], recipe: SweepRecipe) -> list[int]:
    """The layers worth the whole split, best first: at most `recipe.finalists`, all with as many gates passed as the best one.

    Layers go by their best screened cell: first whether the layer may be chosen at all, then by gates passed, then by behaviour.
    """
    best = _best_screened(cells, recipe)
    ranked = sorted(best, key=lambda layer: best[layer][0], reverse=True)
    return [layer for layer in ranked if best[layer][0][:2] == best[ranked[0]][0][:2]][: recipe.finalists]


def refine_alphas(cells: Sequence[Cell], layer: int, recipe: SweepRecipe) -> list[str]:
    """The α of the final stage: the best screened one of this layer, its two neighbours on the grid, and the points half-way.

    The usable window is often narrower than any grid worth screening, and a cell far outside it teaches nothing.
    """
    grid = sorted(parse_alpha(alpha) for alpha in recipe.alphas)
    best = grid.index(Decimal(_best_screened(cells, recipe)[layer][1]))
    near = grid[max(0, best - 1) : best + 2]
    between = [(low + high) / 2 for low, high in pairwise(near)]
    return [format_decimal(alpha) for alpha in sorted([*near, *between]) if alpha]


def _best_screened(cells: Sequence[Cell], recipe: SweepRecipe) -> dict[int, tuple[tuple[bool, int, Decimal, int], str]]:
    """Per layer, how good its best screened cell is and the α of that cell.

    On a small subset one item is worth more than a gate allows, so here a share may miss its threshold by one item.
    """
    screened = [cell for cell in cells if cell["stage"] == "screen"]
    baseline = next(cell for cell in screened if cell["layer"] is None)
    gates = [_loosen(gate, baseline["items"]) for gate in recipe.gates]

    def merit(cell: Cell) -> tuple[bool, int, Decimal, int]:
        judged = judge_gates(gates, cell, baseline)
        may_be_chosen = all(gate["verdict"] == "pass" for gate in judged if gate["metric"] == "layer_depth")
        return may_be_chosen, sum(gate["verdict"] == "pass" for gate in judged), Decimal(cell["behaviour"]), -cell["layer"]

    best: dict[int, tuple[tuple[bool, int, Decimal, int], str]] = {}
    for cell in sorted((cell for cell in screened if cell["layer"] is not None), key=lambda cell: abs(Decimal(cell["alpha"]))):
        if cell["layer"] not in best or merit(cell) > best[cell["layer"]][0]:
            best[cell["layer"]] = merit(cell), cell["alpha"]
    return best


def _loosen(gate: Mapping[str, str], items: Mapping[str, int]) -> dict[str, str]:
    if gate["kind"] != "min_difference" or gate["metric"] not in ("facts", "refusals"):
        return dict(gate)
    one_item = Decimal(format_measure(1 / items[gate["metric"]], significant_digits=3))
    return {**gate, "threshold": format_decimal(min(Decimal(gate["threshold"]), -one_item))}


class _Run:
    """One sweep in progress: the cells so far, and how many replies of how many have been written."""

    def __init__(
        self,
        loaded: LoadedModel,
        directions: Sequence[LayerDirection],
        suites: Mapping[str, SuiteFile],
        scorer: Scorer,
        recipe: SweepRecipe,
        done_cells: Sequence[Cell],
        on_progress: Progress | None,
        on_cell: OnCell | None,
    ) -> None:
        self._loaded, self._scorer, self._recipe, self._on_progress, self._on_cell = loaded, scorer, recipe, on_progress, on_cell
        self._directions = {direction.layer: direction for direction in directions}
        layers = recipe.resolve_layers(loaded.n_layers)
        missing = [layer for layer in layers if layer not in self._directions]
        if missing:
            raise EngineError(
                "DIRECTION_MISSING", f"there is no direction for layer {missing[0]}; extract it or leave the layer out", str(missing[0])
            )
        self.digest = digest_sweep(loaded, suites, scorer, recipe)
        for cell in done_cells:
            if cell["sweep"] != self.digest:
                raise EngineError(
                    "CHECKPOINT_MISMATCH",
                    "a stored cell was measured on another model, suite or recipe; start the sweep again",
                    cell["sweep"],
                )
        self.cells: list[Cell] = [dict(cell) for cell in done_cells]
        everything = EvalItems.of(suites, "select")
        screened = everything.subset(recipe.screen_behaviour, recipe.screen_facts, recipe.screen_refusals)
        self._items = {"screen": screened, "final": everything}
        # How many cells the final stage has is known when the first is over; until then the most there can be is announced.
        self._cells_of = {"screen": 1 + len(recipe.steered_alphas()) * len(layers), "final": 1 + 5 * min(recipe.finalists, len(layers))}
        self._done = sum(len(self._items[cell["stage"]].all) for cell in self.cells)

    def measure(self, stage: str, alphas_of: Mapping[int, Sequence[str]]) -> None:
        """All cells of a stage that are not there yet: the baseline, then layer by layer."""
        self._cells_of[stage] = 1 + sum(len(alphas) for alphas in alphas_of.values())
        have = {(cell["layer"], cell["alpha"]): cell for cell in self.cells if cell["stage"] == stage}
        baseline = have.get((None, "0"))
        if baseline is None:
            [baseline] = self._measure_cells(stage, None, ["0"], None)
        for layer, wanted in alphas_of.items():
            alphas = [alpha for alpha in wanted if (layer, alpha) not in have]
            if alphas:
                self._measure_cells(stage, layer, alphas, baseline)

    def _measure_cells(self, stage: str, layer: int | None, alphas: Sequence[str], baseline: Cell | None) -> list[Cell]:
        """The cells of one layer. All its α are rows of the same batches, and an item's rows share the work on its prompt."""
        items = self._items[stage]
        replies = self._generate(items, layer, alphas)
        to_tickets = replies[: len(items.behaviour) * len(alphas)]
        tickets = [item.messages for item in items.behaviour for _ in alphas]
        nats, tokens = measure_surprisal(self._loaded, tickets, to_tickets)
        cells = []
        for index, alpha in enumerate(alphas):
            own = slice(index, None, len(alphas))
            scores = score_replies(items, replies[own], self._scorer, (nats[own], tokens[own]))
            cells.append(self._describe(stage, layer, alpha, items, scores, baseline))
            self.cells.append(cells[-1])
            if self._on_cell is not None:
                self._on_cell(dict(cells[-1]))
        return cells

    def _generate(self, items: EvalItems, layer: int | None, alphas: Sequence[str]) -> list[Reply]:
        """Replies in the order item by item, and within an item α by α."""
        components: list[Component] = []
        rows = None
        if layer is not None:
            direction, recipe = self._directions[layer], self._recipe
            components.append(Component(direction.direction, layer, 0.0, direction.site, recipe.operator, recipe.scope))
            coefficients = [float(coefficient_of(direction, alpha, recipe.unit)) for alpha in alphas]
            rows = torch.tensor(coefficients, dtype=torch.float32).repeat(len(items.all))[:, None]
        conversations = [messages for messages in items.conversations for _ in alphas]
        before = self._done
        total = sum(self._cells_of[stage] * len(items.all) for stage, items in self._items.items())

        def advance(done: int, _total: int) -> None:
            self._done = before + done
            if self._on_progress is not None:
                self._on_progress(self._done, total)

        return generate(
            self._loaded,
            conversations,
            components=components,
            row_coefficients=rows,
            max_new_tokens=self._recipe.max_new_tokens,
            on_progress=advance,
        )

    def _describe(self, stage: str, layer: int | None, alpha: str, items: EvalItems, scores: ReplyScores, baseline: Cell | None) -> Cell:
        perplexity = measure(scores.perplexity)
        own = Decimal(perplexity if baseline is None else baseline["perplexity"])
        depth = coefficient = "0"
        if layer is not None:
            depth = measure(layer / self._loaded.n_layers)
            coefficient = measure(float(coefficient_of(self._directions[layer], alpha, self._recipe.unit)))
        return {
            "schema": "steerhub.cell/1",
            "sweep": self.digest,
            "stage": stage,
            "layer": layer,
            "layer_depth": depth,
            "alpha": alpha,
            "unit": self._recipe.unit,
            "coefficient": coefficient,
            "items": items.counts,
            "behaviour": measure(float(scores.behaviour.mean())),
            "facts": measure(float(scores.facts.mean())),
            "refusals": measure(float(scores.refusals.mean())),
            "perplexity": perplexity,
            "perplexity_ratio": measure(float(Decimal(perplexity) / own)),
            "repetition": measure(float(scores.repetition.mean())),
            "reply_tokens": measure(float(scores.reply_tokens.mean())),
        }
