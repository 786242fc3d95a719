"""The sweep and the evaluation: measured once, resumed without measuring again, and the same when they are repeated."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
import torch
from PIL import Image

from steernode.canonical import canonical_json, parse_strict, sha256_hex
from steernode.engine.access.models import LoadedModel, load_model
from steernode.engine.applying.components import Component
from steernode.engine.judging.evaluate import Evaluation
from steernode.engine.measuring.margins import MarginItem, margin_items
from steernode.engine.measuring.rubric import RubricScorer
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.engine.searching.doses import Dose, refine_doses
from steernode.engine.searching.plots import draw_heat_map
from steernode.engine.searching.recipe import SweepRecipe
from steernode.engine.searching.screen import bought_shift, measure_screen, plan_rounds, rank_layers, spread_items
from steernode.engine.searching.search import Search, SearchFailed, dose_response
from steernode.engine.searching.sweep import KEPT_TICKETS, measure_grid, sweep
from steernode.errors import EngineError
from steernode.files.suites import RubricExample, SuiteFile, parse_suite
from tests.support.candidates import make_candidate
from tests.support.kept_work import Kept
from tests.support.tiny_models import make_answered_pair, make_pairs

# Random weights write noise, so the gates of these tests let everything through and the mechanics are what is looked at.
OPEN_GATES = ({"metric": "repetition", "kind": "max", "threshold": "1"},)
RECIPE = SweepRecipe(alphas=("0", "0.5", "1"), screen_items=2, finalists=1, max_new_tokens=4, gates=OPEN_GATES)


def item(name: str, split: str, expect: dict) -> bytes:
    message = {"role": "user", "content": f"{name} please"}
    return json.dumps({"id": name, "split": split, "messages": [message], "expect": expect, "locale": "en-US", "product": "b"}).encode()


def suite(kind: str, expect: dict, count: int = 3) -> SuiteFile:
    lines = [item(f"{kind[:2]}-{split[:2]}-{index}", split, expect) for split in ("select", "test") for index in range(count)]
    return parse_suite(b"\n".join(lines), kind)


@pytest.fixture(scope="module")
def suites() -> dict[str, SuiteFile]:
    return {
        "behaviour": suite("behaviour", {}),
        "factual": suite("factual", {"contains": ["e"]}, 2),
        "safety": suite("safety", {"refuse": False}, 2),
    }


@pytest.fixture(scope="module")
def scorer() -> RubricScorer:
    tones = {1: "the case is closed", 5: "so sorry, we care"}
    return RubricScorer.train([RubricExample(f"{text} {index}", score) for score, text in tones.items() for index in range(6)], "empathy")


@pytest.fixture(scope="module")
def directions(llama: LoadedModel) -> tuple[LayerDirection, ...]:
    return extract_directions(llama, make_pairs(4))


@pytest.fixture(scope="module")
def items(llama: LoadedModel) -> tuple[MarginItem, ...]:
    return margin_items(llama, [make_answered_pair(f"pair-{index}", f"late fee {index}") for index in range(6)])


@pytest.fixture(scope="module")
def swept(llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer, items: tuple) -> Search:
    return sweep(llama, directions, suites, scorer, RECIPE, items=items)


def places(cells: list, stage: str, **only: object) -> set[tuple]:
    return {(cell["layer"], cell["alpha"]) for cell in cells if cell["stage"] == stage and all(cell[key] == only[key] for key in only)}


def test_a_sweep_screens_every_layer_and_generates_with_the_finalist_on_the_whole_split(swept: Search) -> None:
    assert places(swept.cells, "screen", round=0) == {(None, "0"), *((layer, alpha) for layer in range(4) for alpha in ("0.5", "1"))}
    second = [cell for cell in swept.cells if cell["stage"] == "screen" and cell["round"] == 1]
    assert len({cell["layer"] for cell in second}) == 3
    assert {cell["items"]["margins"] for cell in second} == {4}
    final = [cell for cell in swept.cells if cell["stage"] == "final"]
    assert {cell["layer"] for cell in final} == {None, swept.layers[0]}
    assert all(cell["items"] == {"behaviour": 3, "facts": 2, "refusals": 2} for cell in final)
    assert swept.chosen in final


def test_cells_are_canonical_documents_without_floats(swept: Search) -> None:
    for cell in swept.cells:
        assert parse_strict(canonical_json(cell)) == cell
    baselines = {cell["stage"]: cell for cell in swept.cells if cell["layer"] is None}
    screened, final = baselines["screen"], baselines["final"]
    assert (final["alpha"], final["coefficient"], final["perplexity_ratio"]) == ("0", "0", "1")
    assert (screened["margin_shift"], screened["kl_p95"], screened["kl_last"]) == ("0", "0", "0")


def test_the_coefficient_of_a_cell_is_alpha_times_the_norm(swept: Search, directions: tuple) -> None:
    cell = next(cell for cell in swept.cells if cell["layer"] == 2 and cell["alpha"] == "0.5")
    assert float(cell["coefficient"]) == pytest.approx(0.5 * directions[2].norm, rel=1e-5)


@pytest.mark.parametrize("share", [1, 2, 5])
def test_a_sweep_goes_on_from_what_was_kept_of_it_to_the_same_cells(
    llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer, items: tuple, swept: Search, share: int
) -> None:
    work = Kept()
    sweep(replace(llama, work=work), directions, suites, scorer, RECIPE, items=items)
    left = {place for index, place in enumerate(work.done) if index % share == share - 1}
    work.kept, work.done = {place: data for place, data in work.kept.items() if place not in left}, []
    assert sweep(replace(llama, work=work), directions, suites, scorer, RECIPE, items=items) == swept
    assert set(work.done) == left
    # All is kept now.
    work.done = []
    assert sweep(replace(llama, work=work), directions, suites, scorer, RECIPE, items=items) == swept
    assert work.done == []


def test_the_exhaustive_grid_has_replies_in_every_cell_and_none_between(
    llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer, swept: Search
) -> None:
    grid = measure_grid(llama, directions, suites, scorer, RECIPE)
    assert places(grid.cells, "final") == {(None, "0"), *((layer, alpha) for layer in range(4) for alpha in ("0.5", "1"))}
    assert len(grid.cells) == 9
    # A layer's α are the same batches in either, so that a search finds the grid's best cell if it keeps its layer.
    shared = [(one, other) for one in grid.cells for other in swept.cells if other["stage"] == "final"]
    same = [(one, other) for one, other in shared if (one["layer"], one["alpha"]) == (other["layer"], other["alpha"])]
    assert len(same) == 3
    assert all({**one, "sweep": ""} == {**other, "sweep": ""} for one, other in same)


@pytest.mark.parametrize("seed", range(3))
def test_screening_finds_the_layer_whose_direction_carries_a_planted_behaviour(model_folders: dict, items: tuple, seed: int) -> None:
    loaded, layer = load_model(model_folders["llama"]), seed
    items = tuple(replace(item, positive=item.positive[:1], negative=item.negative[:1]) for item in items)
    planted, *others = torch.linalg.qr(torch.randn(32, 4, generator=torch.Generator().manual_seed(seed)))[0].T
    # One neuron of the next block's MLP reads the direction, nothing else does, and it writes what tells the two completions apart.
    apart = torch.eye(32) - torch.outer(planted, planted)
    head, mlp = loaded.model.lm_head.weight, loaded.model.model.layers[layer + 1].mlp
    with torch.no_grad():
        for block in loaded.model.model.layers:
            attention = block.self_attn
            for reader in (attention.q_proj, attention.k_proj, attention.v_proj, block.mlp.gate_proj, block.mlp.up_proj):
                reader.weight.copy_(reader.weight @ apart)
        head.copy_(head @ apart)
        mlp.gate_proj.weight[0], mlp.up_proj.weight[0] = 4 * planted, 4 * planted
        mlp.down_proj.weight[:, 0] = head[items[0].positive[0]] - head[items[0].negative[0]]
    of_layer = {each: planted if each == layer else others.pop() for each in range(4)}
    variants = {(each, alpha): Component(of_layer[each], each, 4 * float(alpha)) for each in of_layer for alpha in ("0.25", "0.5", "1")}
    measured = measure_screen(loaded, items, variants)
    cells = [{"layer": each, "alpha": alpha, "layer_depth": "0", **values} for (each, alpha), values in measured.items()]
    assert rank_layers(cells, SweepRecipe(alphas=("0", "0.25", "0.5", "1"), screen_kl="2"))[0] == layer


def test_progress_ends_at_the_total(llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer, items: tuple) -> None:
    seen: list[tuple[int, int]] = []
    sweep(llama, directions, suites, scorer, RECIPE, items=items, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_no_cell_that_passes_is_an_error_that_says_why(
    llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer, items: tuple
) -> None:
    strict = SweepRecipe(**{**RECIPE.__dict__, "gates": ({"metric": "facts", "kind": "min", "threshold": "2"},)})
    kept: list[dict] = []
    with pytest.raises(EngineError, match="facts min 2 stops") as refused:
        sweep(llama, directions, suites, scorer, strict, items=items, on_cell=kept.append)
    assert refused.value.code == "NO_CELL_PASSES"
    assert kept


def test_a_search_that_fails_has_everything_it_measured(
    llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer, items: tuple, swept: Search
) -> None:
    strict = replace(RECIPE, gates=({"metric": "facts", "kind": "min", "threshold": "2"},))
    with pytest.raises(SearchFailed) as refused:
        sweep(llama, directions, suites, scorer, strict, items=items)
    found = refused.value.search
    assert places(found.cells, "screen") == places(swept.cells, "screen")
    assert places(found.cells, "final") == places(swept.cells, "final")
    assert found.nearest["layer"] == found.layers[0]
    assert refused.value.message.endswith(found.nearest["sentence"])
    document = found.to_document()
    assert parse_strict(canonical_json(document)) == document
    assert "chosen" not in document
    assert {cell["layer"] for cell in document["curve"]} == {None, found.nearest["layer"]}
    steered = [cell for cell in document["cells"] if cell["stage"] == "final" and cell["layer"] is not None]
    assert all([judged["verdict"] for judged in cell["gates"]] == ["fail"] for cell in steered)
    png = draw_heat_map(found.cells, title="Empathy", chosen=found.shown, gates=strict.gates)
    assert png.startswith(b"\x89PNG")


def test_the_replies_of_a_few_tickets_are_kept_side_by_side(swept: Search, suites: dict) -> None:
    asked = [item.id for item in suites["behaviour"].split("select")]
    assert [reply["item"] for reply in swept.replies] == asked[:KEPT_TICKETS]
    assert all(set(reply[side]) == {"text", "score"} for reply in swept.replies for side in ("baseline", "steered"))


def test_missing_directions_and_suites_are_named(
    llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer, items: tuple
) -> None:
    with pytest.raises(EngineError) as refused:
        sweep(llama, directions[:2], suites, scorer, RECIPE, items=items)
    assert (refused.value.code, refused.value.item) == ("DIRECTION_MISSING", "2")
    with pytest.raises(EngineError) as refused:
        sweep(llama, directions, {"behaviour": suites["behaviour"]}, scorer, RECIPE, items=items)
    assert (refused.value.code, refused.value.item) == ("SUITE_MISSING", "factual")


def test_screening_without_contrast_items_is_refused(llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer) -> None:
    with pytest.raises(EngineError) as refused:
        sweep(llama, directions, suites, scorer, RECIPE)
    assert (refused.value.code, refused.value.item) == ("MARGIN_EMPTY", "items")


def screened(layer: int | None, alpha: str, shift: str, kl: str) -> dict:
    return {"stage": "screen", "layer": layer, "alpha": alpha, "margin_shift": shift, "kl_p95": kl, "layer_depth": str((layer or 0) / 8)}


def replied(layer: int | None, alpha: str, behaviour: str, **values: str) -> dict:
    good = {"facts": "0.9", "refusals": "1", "perplexity_ratio": "1", "repetition": "0", "layer_depth": str((layer or 0) / 8)}
    return {"stage": "final", "layer": layer, "alpha": alpha, "behaviour": behaviour, **good, **values}


def test_layers_are_compared_at_equal_divergence_and_not_at_equal_alpha() -> None:
    cells = [screened(3, "0.2", "2", "0.25"), screened(3, "0.4", "6", "1"), screened(3, "0.6", "9", "4")]
    assert bought_shift(cells, 0.5625) == pytest.approx(4.0)
    assert bought_shift(cells, 0.01) == pytest.approx(0.4)
    assert bought_shift(cells, 100) == 9
    # α of the other sign is searched too, and a shift the wrong way buys nothing.
    assert bought_shift([screened(3, "-0.2", "2", "0.25"), screened(3, "0.2", "-2", "0.25")], 1) == 2
    assert bought_shift([screened(3, "0.2", "-2", "0.25")], 1) == 0


def test_a_layer_that_may_not_be_chosen_comes_last() -> None:
    cells = [screened(None, "0", "0", "0"), screened(7, "0.4", "9", "0.1"), screened(2, "0.4", "1", "0.1"), screened(3, "0.4", "2", "0.1")]
    assert rank_layers(cells, SweepRecipe(alphas=("0", "0.4"))) == [3, 2, 7]
    assert rank_layers([*cells, screened(4, "0.4", "2", "0.1")], SweepRecipe(alphas=("0", "0.4"))) == [3, 4, 2, 7]


def test_rounds_halve_the_layers_and_double_the_items_on_items_of_their_own(items: tuple) -> None:
    many = tuple(replace(items[0], id=str(index)) for index in range(64))
    rounds = plan_rounds(8, many, SweepRecipe(finalists=1, screen_items=8))
    assert [(each.layers, len(each.items), each.keep) for each in rounds] == [(8, 8, 4), (4, 16, 2), (2, 32, 1)]
    assert len({item.id for each in rounds for item in each.items}) == 56
    few = plan_rounds(8, many[:10], SweepRecipe(finalists=1, screen_items=8))
    assert [len(each.items) for each in few] == [8, 10, 10]
    assert plan_rounds(2, many, SweepRecipe(finalists=2)) == []


def test_every_beginning_of_the_items_is_spread_over_them_all(items: tuple) -> None:
    many = tuple(replace(items[0], id=str(index)) for index in range(40))
    order = [int(item.id) for item in spread_items(many)]
    assert sorted(order) == list(range(40))
    assert all(any(low <= index < low + 10 for index in order[:8]) for low in (0, 10, 20, 30))


def refine_alphas(cells: list[dict], layer: int, recipe: SweepRecipe) -> list[str]:
    return [dose.alpha for dose in refine_doses(cells, layer, [Dose(alpha) for alpha in recipe.steered_alphas()], recipe.gates)]


def test_the_grid_is_refined_around_the_best_alpha() -> None:
    recipe = SweepRecipe(alphas=("0", "0.2", "0.4", "0.6"))
    cells = [replied(None, "0", "1"), replied(3, "0.2", "2"), replied(3, "0.4", "4"), replied(3, "0.6", "5", facts="0.1")]
    assert refine_alphas(cells, 3, recipe) == ["0.3", "0.5"]
    cells = [replied(None, "0", "1"), replied(3, "0.2", "2"), replied(3, "0.4", "4", facts="0"), replied(3, "0.6", "5", facts="0")]
    assert refine_alphas(cells, 3, recipe) == ["0.1", "0.3"]
    cells = [replied(None, "0", "1"), replied(3, "0.2", "2"), replied(3, "0.4", "4"), replied(3, "0.6", "5")]
    assert refine_alphas(cells, 3, recipe) == ["0.5"]


def test_the_dose_response_is_of_replies_alone(swept: Search) -> None:
    curve = dose_response(swept.cells, swept.layers[0])
    assert [Decimal(cell["alpha"]) for cell in curve] == sorted({Decimal(cell["alpha"]) for cell in curve})
    assert {"0", "0.5", "1"} <= {cell["alpha"] for cell in curve}
    assert all(cell["stage"] == "final" for cell in curve)
    assert swept.chosen in curve


def test_evidence_is_canonical_and_repeats_but_for_the_clock(
    llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer, swept: Search
) -> None:
    candidate = make_candidate(directions[2], "0.5")
    curve = dose_response(swept.cells, 2)
    first, second = (Evaluation(llama, candidate, suites, scorer, max_new_tokens=4, curve=curve).finish().document for _ in range(2))
    assert parse_strict(canonical_json(first)) == first
    assert len(sha256_hex(canonical_json(first))) == 64
    assert {key: value for key, value in first.items() if key != "speed"} == {key: value for key, value in second.items() if key != "speed"}
    assert first["run"]["suites"] == {kind: suite.digest for kind, suite in suites.items()}
    assert first["items"] == {"behaviour": 3, "facts": 2, "refusals": 2}
    assert [judged["metric"] for judged in first["gates"]] == ["behaviour", "facts", "refusals", "perplexity_ratio", "layer_depth"]
    assert first["verdict"] == ("pass" if all(judged["verdict"] == "pass" for judged in first["gates"]) else "fail")
    assert [reply["item"] for reply in first["replies"]] == ["be-te-0", "be-te-1", "be-te-2"]


def test_evidence_at_zero_shows_no_difference(llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer) -> None:
    evidence = Evaluation(llama, make_candidate(directions[2], "0"), suites, scorer, max_new_tokens=4).finish().document
    for name in ("behaviour", "facts", "refusals"):
        assert evidence["metrics"][name]["difference"]["value"] == "0"
    assert evidence["metrics"]["perplexity_ratio"]["steered"]["value"] == "1"
    assert all(reply["baseline"] == reply["steered"] for reply in evidence["replies"])


def test_the_heat_map_is_a_png_that_repeats(swept: Search) -> None:
    png = draw_heat_map(swept.cells, title="Empathy by layer and α", chosen=swept.chosen)
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert image.shape[0] > 100
    red = (image[:, :, 0] > 200) & (image[:, :, 1] < 60) & (image[:, :, 2] < 60)
    assert red.any()
    assert png == draw_heat_map(swept.cells, title="Empathy by layer and α", chosen=swept.chosen)


def test_a_heat_map_without_cells_is_refused() -> None:
    with pytest.raises(EngineError) as refused:
        draw_heat_map([], title="nothing")
    assert refused.value.code == "CELLS_MISSING"
