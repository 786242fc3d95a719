"""The sweep: every layer screened without generating, then replies for the best few on the select split, over a grid of α.

A cell is one (layer, α) and a plain document with decimal strings. What an interrupted search had measured is kept below this, batch by
batch (`access/work.py`). Cells of the stage `screen` hold margins and divergences on contrast items, those
of the stage `final` what the replies to the suites' items are like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import torch

from steernode.canonical import canonical_json, format_decimal, parse_alpha, sha256_hex
from steernode.engine.access.batches import Progress
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component, component_of
from steernode.engine.applying.generate import generate
from steernode.engine.measuring.gates import choose_cell, judge_gates
from steernode.engine.measuring.margins import MarginItem
from steernode.engine.measuring.metrics import EvalItems, ReplyScores, Scorer, measure_surprisal, score_replies, spread
from steernode.engine.measuring.stats import measure
from steernode.engine.reading.directions import LayerDirection
from steernode.engine.searching.nearest import find_nearest
from steernode.engine.searching.recipe import SweepRecipe
from steernode.engine.searching.screen import Round, measure_screen, plan_rounds, rank_layers, spread_items
from steernode.engine.searching.search import Cell, Document, Search, SearchFailed
from steernode.errors import EngineError
from steernode.files.suites import SuiteFile
from steernode.gates import layer_depth

# How many tickets the replies to are kept of.
KEPT_TICKETS = 4

OnCell = Callable[[Cell], None]


def digest_sweep(
    loaded: LoadedModel, suites: Mapping[str, SuiteFile], scorer: Scorer, recipe: SweepRecipe, items: Sequence[MarginItem] = ()
) -> str:
    """What two sweeps must have in common for their cells to be comparable."""
    identity = {
        "base_model_fingerprint": loaded.fingerprint,
        "suites": {kind: suite.digest for kind, suite in suites.items()},
        "scorer": dict(scorer.description),
        "recipe": recipe.to_document(),
        **({"template_arguments": dict(loaded.template_arguments)} if loaded.template_arguments else {}),
        "items": [[item.id, list(item.prompt), list(item.positive), list(item.negative)] for item in items],
    }
    return sha256_hex(canonical_json(identity))


def sweep(
    loaded: LoadedModel,
    directions: Sequence[LayerDirection],
    suites: Mapping[str, SuiteFile],
    scorer: Scorer,
    recipe: SweepRecipe,
    *,
    items: Sequence[MarginItem] = (),
    on_progress: Progress | None = None,
    on_cell: OnCell | None = None,
) -> Search:
    """Screens the layers on `items`, generates for the finalists on the select split, and chooses a cell.

    `items` are contrast items that the directions were not extracted from, as `margin_items` makes them of the select part of
    `split_pairs`; only the screen `none` can do without. `on_progress(done, total)` counts items and replies, each under one
    (layer, α); `on_cell` is called with each cell.

    Raises: SearchFailed NO_CELL_PASSES, which has all that was measured; EngineError DIRECTION_MISSING, MARGIN_EMPTY, SUITE_MISSING,
    and the codes of `generate` and `score_forced`.
    """
    run = _Run(loaded, directions, suites, scorer, recipe, items, on_progress, on_cell)
    finalists = list(recipe.resolve_layers(loaded.n_layers))
    for number in range(len(run.rounds)):
        finalists = run.screen(number, finalists)
    run.measure({layer: recipe.steered_alphas() for layer in finalists})
    if recipe.refine:
        run.measure({layer: refine_alphas(run.cells, layer, recipe) for layer in finalists})
    return run.conclude(finalists)


def measure_grid(
    loaded: LoadedModel,
    directions: Sequence[LayerDirection],
    suites: Mapping[str, SuiteFile],
    scorer: Scorer,
    recipe: SweepRecipe,
    *,
    on_progress: Progress | None = None,
) -> Search:
    """The exhaustive search: replies in every cell of the recipe's grid, and nothing between its points."""
    whole = replace(recipe, screen="none", refine=False)
    return sweep(loaded, directions, suites, scorer, whole, on_progress=on_progress)


def refine_alphas(cells: Sequence[Cell], layer: int, recipe: SweepRecipe) -> list[str]:
    """The α half-way between the layer's best one on the grid and its neighbours there, 0 included.

    The usable window is often narrower than any grid worth measuring, and a cell far outside it teaches nothing.
    """
    final = [cell for cell in cells if cell["stage"] == "final"]
    baseline = next(cell for cell in final if cell["layer"] is None)
    grid = sorted(parse_alpha(alpha) for alpha in recipe.alphas)
    own = [cell for cell in final if cell["layer"] == layer and Decimal(cell["alpha"]) in grid]

    def merit(cell: Cell) -> tuple[int, Decimal, Decimal]:
        passed = sum(judged["verdict"] == "pass" for judged in judge_gates(recipe.gates, cell, baseline))
        return passed, Decimal(cell["behaviour"]), -abs(Decimal(cell["alpha"]))

    best = grid.index(Decimal(max(own, key=merit)["alpha"]))
    return [format_decimal((low + high) / 2) for low, high in pairwise(grid[max(0, best - 1) : best + 2])]


class _Run:
    """One sweep in progress: the cells so far, and how many items and replies of how many have been measured."""

    def __init__(
        self,
        loaded: LoadedModel,
        directions: Sequence[LayerDirection],
        suites: Mapping[str, SuiteFile],
        scorer: Scorer,
        recipe: SweepRecipe,
        items: Sequence[MarginItem],
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
        if recipe.screen == "margins" and not items:
            raise EngineError("MARGIN_EMPTY", "screening by margins needs contrast items; make some, or search the whole grid", "items")
        self._items = EvalItems.of(suites, "select")
        self.rounds: list[Round] = plan_rounds(len(layers), spread_items(items), recipe) if recipe.screen == "margins" else []
        self.digest = digest_sweep(loaded, suites, scorer, recipe, items if self.rounds else ())
        self.cells: list[Cell] = []
        # What is kept of the replies of each cell: (layer, α) -> one document for each kept ticket.
        self._said: dict[tuple[int | None, str], list[Document]] = {}
        alphas, finalists = len(recipe.steered_alphas()), len(layers) if recipe.screen == "none" else min(recipe.finalists, len(layers))
        # How many cells the final stage has is known when the grid is measured; until then the most there can be is announced.
        cells = 1 + finalists * (alphas + (2 if recipe.refine else 0))
        self._total = sum((1 + each.layers * alphas) * len(each.items) for each in self.rounds) + cells * len(self._items.all)
        self._done = 0

    def screen(self, number: int, layers: Sequence[int]) -> list[int]:
        """The layers that go on, best first, after one round on them."""
        this = self.rounds[number]
        variants = {(layer, alpha): self._component(layer, alpha) for layer in layers for alpha in self._recipe.steered_alphas()}
        measured = measure_screen(self._loaded, this.items, variants, self._counter(self._done))
        cells = [
            self._keep({**self._head("screen", layer, alpha), "round": number, **values}) for (layer, alpha), values in measured.items()
        ]
        return rank_layers(cells, self._recipe)[: this.keep]

    def measure(self, alphas_of: Mapping[int, Sequence[str]]) -> None:
        """All cells of the final stage that are not there yet: the baseline, then layer by layer."""
        have = {(cell["layer"], Decimal(cell["alpha"])): cell for cell in self.cells if cell["stage"] == "final"}
        baseline = have.get((None, Decimal(0)))
        if baseline is None:
            [baseline] = self._generate_cells(None, ["0"], None)
        for layer, wanted in alphas_of.items():
            alphas = [alpha for alpha in wanted if (layer, Decimal(alpha)) not in have]
            if alphas:
                self._generate_cells(layer, alphas, baseline)

    def _generate_cells(self, layer: int | None, alphas: Sequence[str], baseline: Cell | None) -> list[Cell]:
        """The cells of one layer. All its α are rows of the same batches, and an item's rows share the work on its prompt."""
        items = self._items
        components, rows = [], None
        if layer is not None:
            components = [self._component(layer, "0")]
            coefficients = [self._component(layer, alpha).coefficient for alpha in alphas]
            rows = torch.tensor(coefficients, dtype=torch.float32).repeat(len(items.all))[:, None]
        replies = generate(
            self._loaded,
            [messages for messages in items.conversations for _ in alphas],
            components=components,
            row_coefficients=rows,
            max_new_tokens=self._recipe.max_new_tokens,
            on_progress=self._counter(self._done),
        )
        tickets = [item.messages for item in items.behaviour for _ in alphas]
        nats, tokens = measure_surprisal(self._loaded, tickets, replies[: len(tickets)])
        cells = []
        for index, alpha in enumerate(alphas):
            own = slice(index, None, len(alphas))
            scores = score_replies(items, replies[own], self._scorer, (nats[own], tokens[own]))
            self._said[layer, alpha] = [
                {"text": replies[own][ticket].text, "score": measure(float(scores.behaviour[ticket]))} for ticket in self._kept_tickets
            ]
            cell = {**self._head("final", layer, alpha), **_describe(items, scores, baseline)}
            if baseline is not None:
                cell["gates"] = judge_gates(self._recipe.gates, cell, baseline)
            cells.append(self._keep(cell))
        return cells

    def conclude(self, finalists: Sequence[int]) -> Search:
        """Raises: SearchFailed."""
        search = Search(self.digest, tuple(self.cells), tuple(finalists), None, None, ())
        try:
            search = replace(search, chosen=choose_cell(self.cells, self._recipe.gates))
        except EngineError as error:
            if error.code != "NO_CELL_PASSES":
                raise
            # It was paid for, and whoever decides what to change next needs it.
            nearest = find_nearest(self.cells, self._recipe.gates)
            search = replace(search, nearest=nearest)
            raise SearchFailed(f"{error.message}; {nearest['sentence']}", replace(search, replies=self._show(search.shown))) from error
        return replace(search, replies=self._show(search.shown))

    def _show(self, cell: Cell) -> tuple[Document, ...]:
        """The kept tickets with the baseline's reply and the cell's."""
        tickets = [self._items.behaviour[ticket] for ticket in self._kept_tickets]
        both = zip(tickets, self._said[None, "0"], self._said[cell["layer"], cell["alpha"]], strict=True)
        return tuple(
            {"item": item.id, "messages": [message.to_document() for message in item.messages], "baseline": own, "steered": steered}
            for item, own, steered in both
        )

    @property
    def _kept_tickets(self) -> tuple[int, ...]:
        return spread(range(len(self._items.behaviour)), KEPT_TICKETS)

    def _component(self, layer: int, alpha: str) -> Component:
        recipe = self._recipe
        return component_of(self._directions[layer], alpha, recipe.unit, recipe.operator, recipe.scope)

    def _counter(self, before: int) -> Progress:
        def advance(done: int, _total: int) -> None:
            self._done = before + done
            if self._on_progress is not None:
                self._on_progress(self._done, max(self._total, self._done))

        return advance

    def _keep(self, cell: Cell) -> Cell:
        self.cells.append(cell)
        if self._on_cell is not None:
            self._on_cell(dict(cell))
        return cell

    def _head(self, stage: str, layer: int | None, alpha: str) -> Cell:
        return {
            "schema": "steerhub.cell/3",
            "sweep": self.digest,
            "stage": stage,
            "layer": layer,
            "layer_depth": "0" if layer is None else format_decimal(layer_depth(layer, self._loaded.n_layers)),
            "alpha": alpha,
            "unit": self._recipe.unit,
            "coefficient": "0" if layer is None else measure(self._component(layer, alpha).coefficient),
        }


def _describe(items: EvalItems, scores: ReplyScores, baseline: Cell | None) -> Cell:
    perplexity = measure(scores.perplexity)
    own = Decimal(perplexity if baseline is None else baseline["perplexity"])
    return {
        "items": items.counts,
        "behaviour": measure(float(scores.behaviour.mean())),
        "facts": measure(float(scores.facts.mean())),
        "refusals": measure(float(scores.refusals.mean())),
        "perplexity": perplexity,
        "perplexity_ratio": measure(float(Decimal(perplexity) / own)),
        "repetition": measure(float(scores.repetition.mean())),
        "reply_tokens": measure(float(scores.reply_tokens.mean())),
    }
