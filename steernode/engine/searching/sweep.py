"""The sweep: every layer screened without generating, then replies for the best few on the select split, over a grid of α.

A cell is one (layer, α) and a plain document with decimal strings. What an interrupted search had measured is kept below this, batch by
batch (`access/work.py`). Cells of the stage `screen` hold margins and divergences on contrast items, those
of the stage `final` what the replies to the suites' items are like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import torch

from steernode.canonical import canonical_json, format_decimal, sha256_hex
from steernode.engine.access.batches import Progress
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component, component_of
from steernode.engine.applying.generate import generate
from steernode.engine.measuring.gates import choose_cell, judge_gates
from steernode.engine.measuring.items import EvalItems, spread
from steernode.engine.measuring.margins import MarginItem
from steernode.engine.measuring.metrics import ReplyScores, Scorer, measure_surprisal, score_replies
from steernode.engine.measuring.stats import measure
from steernode.engine.reading.directions import LayerDirection
from steernode.engine.searching import stages
from steernode.engine.searching.cells import describe_replies
from steernode.engine.searching.doses import Dose, Grids, find_grids, refine_doses
from steernode.engine.searching.nearest import find_nearest
from steernode.engine.searching.recipe import SweepRecipe
from steernode.engine.searching.screen import Round, measure_screen, plan_rounds, rank_layers, spread_items
from steernode.engine.searching.search import Cell, Document, Search, SearchFailed
from steernode.engine.searching.ties import describe_rounds, find_ties
from steernode.errors import EngineError
from steernode.files.suites import SuiteFile
from steernode.gates import layer_depth

_NONE = Dose("0")
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
    alpha_cap: str | None = None,
    on_progress: Progress | None = None,
    on_cell: OnCell | None = None,
) -> Search:
    """Screens the layers on `items`, generates for the finalists on the select split, and chooses a cell.

    `items` are contrast items that the directions were not extracted from, as `margin_items` makes them of the select part of
    `split_pairs`; only the screen `none` can do without. Grids that are yet to be found go up to `alpha_cap`,
    or as far as any may. `on_progress(done, total)` counts items and replies, each under one
    (layer, α); `on_cell` is called with each cell.

    Raises: SearchFailed NO_CELL_PASSES, which has all that was measured; EngineError DIRECTION_MISSING, MARGIN_EMPTY, SUITE_MISSING,
    and the codes of `generate` and `score_forced`.
    """
    run = _Run(loaded, directions, suites, scorer, recipe, items, on_progress, on_cell)
    finalists = run.lay_grids(alpha_cap)
    if run.rounds:
        loaded.work.enter(stages.SCREENING)
    for number in range(len(run.rounds)):
        finalists = run.screen(number, finalists)
    loaded.work.enter(stages.REPLIES)
    run.measure({layer: run.grids[layer] for layer in finalists})
    if recipe.refine:
        run.measure({layer: refine_doses(run.cells, layer, run.grids[layer], recipe.gates) for layer in finalists})
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
        self._layers = layers = recipe.resolve_layers(loaded.n_layers)
        self.grids: Grids = {layer: [Dose(alpha) for alpha in recipe.steered_alphas()] for layer in layers}
        self._doses: Document | None = None
        missing = [layer for layer in layers if layer not in self._directions]
        if missing:
            raise EngineError(
                "DIRECTION_MISSING", f"there is no direction for layer {missing[0]}; extract it or leave the layer out", str(missing[0])
            )
        if recipe.screen == "margins" and not items:
            raise EngineError("MARGIN_EMPTY", "screening by margins needs contrast items; make some, or search the whole grid", "items")
        self._items = EvalItems.of(suites, "select")
        # As planned; layers that nothing moves may leave fewer.
        self._screened = spread_items(items) if recipe.screen == "margins" else ()
        self.rounds = self._plan_rounds()
        self.digest = digest_sweep(loaded, suites, scorer, recipe, items if self.rounds else ())
        self.cells: list[Cell] = []
        self._baseline: ReplyScores | None = None
        # What is kept of the replies of each cell: (layer, α) -> one document for each kept ticket.
        self._said: dict[tuple[int | None, str], list[Document]] = {}
        self._done = self._total = 0

    def lay_grids(self, cap: str | None) -> list[int]:
        """The layers that there is a grid for."""
        if self._recipe.is_auto:
            self._loaded.work.enter(stages.DOSES)
            directions = [self._directions[layer] for layer in self._layers]
            self.grids, self._doses = find_grids(self._loaded, directions, self._items, self._recipe, cap=cap)
            self._layers = tuple(layer for layer in self._layers if layer in self.grids)
            self.rounds = self._plan_rounds()
        self._total = self._count()
        return list(self._layers)

    def _plan_rounds(self) -> list[Round]:
        return plan_rounds(len(self._layers), self._screened, self._recipe) if self._recipe.screen == "margins" else []

    def _count(self) -> int:
        """How many cells the final stage has is known when the grid is measured; until then the most there can be is announced."""
        recipe, layers, doses = self._recipe, len(self._layers), max(map(len, self.grids.values()))
        finalists = layers if recipe.screen == "none" else min(recipe.finalists, layers)
        cells = 1 + finalists * (doses + (2 if recipe.refine else 0))
        return sum((1 + each.layers * doses) * len(each.items) for each in self.rounds) + cells * len(self._items.all)

    def screen(self, number: int, layers: Sequence[int]) -> list[int]:
        """The layers that go on, best first, after one round on them."""
        this = self.rounds[number]
        doses: dict[tuple[int | None, str], Dose] = {(layer, dose.alpha): dose for layer in layers for dose in self.grids[layer]}
        variants = {(layer, dose.alpha): self._component(layer, dose.alpha) for layer in layers for dose in self.grids[layer]}
        measured = measure_screen(self._loaded, this.items, variants, self._counter(self._done))
        cells = [
            self._keep({**self._head("screen", place[0], doses.get(place, _NONE)), "round": number, **values})
            for place, values in measured.items()
        ]
        return rank_layers(cells, self._recipe)[: this.keep]

    def measure(self, doses_of: Mapping[int, Sequence[Dose]]) -> None:
        """All cells of the final stage that are not there yet: the baseline, then layer by layer."""
        have = {(cell["layer"], Decimal(cell["alpha"])): cell for cell in self.cells if cell["stage"] == "final"}
        baseline = have.get((None, Decimal(0)))
        if baseline is None:
            [baseline] = self._generate_cells(None, [_NONE], None)
        for layer, wanted in doses_of.items():
            doses = [dose for dose in wanted if (layer, Decimal(dose.alpha)) not in have]
            if doses:
                self._generate_cells(layer, doses, baseline)

    def _generate_cells(self, layer: int | None, doses: Sequence[Dose], baseline: Cell | None) -> list[Cell]:
        """The cells of one layer. All its α are rows of the same batches, and an item's rows share the work on its prompt."""
        items, alphas = self._items, [dose.alpha for dose in doses]
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
        for index, (dose, alpha) in enumerate(zip(doses, alphas, strict=True)):
            own = slice(index, None, len(alphas))
            scores = score_replies(items, replies[own], self._scorer, (nats[own], tokens[own]))
            self._said[layer, alpha] = [
                {"text": replies[own][ticket].text, "score": measure(float(scores.behaviour[ticket]))} for ticket in self._kept_tickets
            ]
            if baseline is None:
                self._baseline = scores
            cell = {**self._head("final", layer, dose), **describe_replies(items, scores, self._baseline or scores)}
            if baseline is not None:
                cell["gates"] = judge_gates(self._recipe.gates, cell, baseline)
            cells.append(self._keep(cell))
        return cells

    def conclude(self, finalists: Sequence[int]) -> Search:
        """Raises: SearchFailed."""
        search = Search(self.digest, tuple(self.cells), tuple(finalists), None, None, (), self._doses)
        try:
            search = replace(search, chosen=choose_cell(self.cells, self._recipe.gates))
        except EngineError as error:
            if error.code != "NO_CELL_PASSES":
                raise
            # It was paid for, and whoever decides what to change next needs it.
            nearest = find_nearest(self.cells, self._recipe.gates)
            search = self._complete(replace(search, nearest=nearest))
            raise SearchFailed(f"{error.message}; {nearest['sentence']}", search) from error
        return self._complete(search)

    def _complete(self, search: Search) -> Search:
        ties, rounds = find_ties(self.cells, search.shown, self._recipe), describe_rounds(self.cells, self._recipe)
        return replace(search, replies=self._show(search.shown), ties=ties, rounds=tuple(rounds))

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

    def _head(self, stage: str, layer: int | None, dose: Dose) -> Cell:
        """`dose` is the length of what is added as a part of the mean length of the states where the direction was read."""
        coefficient = 0.0 if layer is None else self._component(layer, dose.alpha).coefficient
        target = "0" if layer is None and self._recipe.is_auto else dose.target_kl
        return {
            "schema": "steerhub.cell/3",
            "sweep": self.digest,
            "stage": stage,
            "layer": layer,
            "layer_depth": "0" if layer is None else format_decimal(layer_depth(layer, self._loaded.n_layers)),
            "alpha": dose.alpha,
            "unit": self._recipe.unit,
            "coefficient": measure(coefficient),
            "dose": "0" if layer is None else measure(abs(coefficient) / self._directions[layer].mean_residual_norm),
            **({} if target is None else {"target_kl": target}),
        }
