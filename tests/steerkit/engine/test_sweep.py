"""The sweep and the evaluation: measured once, resumed without measuring again, and the same for everybody who repeats them."""

from __future__ import annotations

import io
import json
from decimal import Decimal

import numpy as np
import pytest
from PIL import Image
from tiny_models import make_pairs

from steerkit.canonical import canonical_json, parse_strict, sha256_hex
from steerkit.engine import sweep as sweep_module
from steerkit.engine.directions import LayerDirection, extract_directions
from steerkit.engine.evaluate import Candidate, evaluate
from steerkit.engine.models import LoadedModel
from steerkit.engine.plots import draw_heat_map
from steerkit.engine.recipe import SweepRecipe
from steerkit.engine.rubric import RubricScorer
from steerkit.engine.sweep import Sweep, choose_finalists, dose_response, refine_alphas, sweep
from steerkit.errors import EngineError, SteerError
from steerkit.suite import RubricExample, SuiteFile, parse_suite

# Random weights write noise, so the gates of these tests let everything through and the mechanics are what is looked at.
OPEN_GATES = ({"metric": "repetition", "kind": "max", "threshold": "1"},)
RECIPE = SweepRecipe(
    layers=(1, 2), alphas=("0", "0.5", "1"), screen_behaviour=2, screen_facts=1, screen_refusals=2, finalists=1, max_new_tokens=4,
    gates=OPEN_GATES,
)  # fmt: skip


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
def swept(llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer) -> Sweep:
    return sweep(llama, directions, suites, scorer, RECIPE)


def test_a_sweep_screens_every_layer_and_measures_the_finalist_on_the_whole_split(swept: Sweep) -> None:
    screened = {(cell["layer"], cell["alpha"]) for cell in swept.cells if cell["stage"] == "screen"}
    assert screened == {(None, "0"), (1, "0.5"), (1, "1"), (2, "0.5"), (2, "1")}
    final = [cell for cell in swept.cells if cell["stage"] == "final"]
    assert {cell["layer"] for cell in final} == {None, swept.layers[0]}
    assert all(cell["items"] == {"behaviour": 3, "facts": 2, "refusals": 2} for cell in final)
    assert swept.chosen in final


def test_cells_are_canonical_documents_without_floats(swept: Sweep) -> None:
    for cell in swept.cells:
        assert parse_strict(canonical_json(cell)) == cell
    baseline = next(cell for cell in swept.cells if cell["layer"] is None)
    assert (baseline["alpha"], baseline["coefficient"], baseline["perplexity_ratio"]) == ("0", "0", "1")


def test_the_coefficient_of_a_cell_is_alpha_times_the_norm(swept: Sweep, directions: tuple) -> None:
    cell = next(cell for cell in swept.cells if cell["layer"] == 2 and cell["alpha"] == "0.5")
    assert float(cell["coefficient"]) == pytest.approx(0.5 * directions[2].norm, rel=1e-5)


def test_a_sweep_resumes_without_measuring_a_cell_again(
    llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer, swept: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    real = sweep_module.generate

    def counted(*arguments: object, **options: object) -> list:
        replies = real(*arguments, **options)
        written.append(len(replies))
        return replies

    monkeypatch.setattr(sweep_module, "generate", counted)
    new: list[dict] = []
    half = swept.cells[:4]
    resumed = sweep(llama, directions, suites, scorer, RECIPE, done_cells=half, on_cell=new.append)
    assert [*half, *new] == list(resumed.cells)
    assert resumed.chosen == swept.chosen
    key = ("stage", "layer", "alpha")
    assert sorted(map(str, ([cell[name] for name in key] for cell in resumed.cells))) == sorted(
        map(str, ([cell[name] for name in key] for cell in swept.cells))
    )
    assert sum(written) == sum(sum(cell["items"].values()) for cell in new)
    written.clear()
    assert sweep(llama, directions, suites, scorer, RECIPE, done_cells=swept.cells) == swept
    assert written == []


def test_cells_of_another_sweep_are_refused(
    llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer, swept: Sweep
) -> None:
    other = SweepRecipe(**{**RECIPE.__dict__, "max_new_tokens": 5})
    with pytest.raises(EngineError) as refused:
        sweep(llama, directions, suites, scorer, other, done_cells=swept.cells)
    assert refused.value.code == "CHECKPOINT_MISMATCH"


def test_progress_ends_at_the_total(llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer) -> None:
    seen: list[tuple[int, int]] = []
    sweep(llama, directions, suites, scorer, RECIPE, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_no_cell_that_passes_is_an_error_that_says_why(llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer) -> None:
    strict = SweepRecipe(**{**RECIPE.__dict__, "gates": ({"metric": "facts", "kind": "min", "threshold": "2"},)})
    kept: list[dict] = []
    with pytest.raises(EngineError, match="facts min 2 stops") as refused:
        sweep(llama, directions, suites, scorer, strict, on_cell=kept.append)
    assert refused.value.code == "NO_CELL_PASSES"
    assert kept


def test_missing_directions_and_suites_are_named(llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer) -> None:
    with pytest.raises(EngineError) as refused:
        sweep(llama, directions[:2], suites, scorer, RECIPE)
    assert (refused.value.code, refused.value.item) == ("DIRECTION_MISSING", "2")
    with pytest.raises(EngineError) as refused:
        sweep(llama, directions, {"behaviour": suites["behaviour"]}, scorer, RECIPE)
    assert (refused.value.code, refused.value.item) == ("SUITE_MISSING", "factual")


def screened(layer: int | None, alpha: str, behaviour: str, **values: str) -> dict:
    good = {"facts": "0.9", "refusals": "1", "perplexity_ratio": "1", "repetition": "0", "layer_depth": str((layer or 0) / 8)}
    items = {"behaviour": 16, "facts": 20, "refusals": 10}
    return {"stage": "screen", "layer": layer, "alpha": alpha, "behaviour": behaviour, "items": items, **good, **values}


def test_finalists_pass_as_many_gates_as_the_best_and_one_missed_item_is_forgiven() -> None:
    cells = [
        screened(None, "0", "1"),
        screened(3, "0.4", "5", perplexity_ratio="3"),
        screened(4, "0.4", "4", facts="0.85"),
        screened(5, "0.4", "4.5", facts="0.8"),
        screened(6, "0.4", "3"),
        screened(7, "0.4", "5"),
    ]
    recipe = SweepRecipe(alphas=("0", "0.4"), finalists=4)
    assert choose_finalists(cells, recipe) == [4, 6]
    assert choose_finalists(cells, SweepRecipe(alphas=("0", "0.4"), finalists=1)) == [4]
    assert choose_finalists([cells[0], cells[1], cells[3], cells[5]], recipe) == [3, 5]


def test_the_final_grid_is_finer_around_the_best_screened_alpha() -> None:
    recipe = SweepRecipe(alphas=("0", "0.2", "0.4", "0.6"))
    cells = [screened(None, "0", "1"), screened(3, "0.2", "2"), screened(3, "0.4", "4"), screened(3, "0.6", "5", facts="0.1")]
    assert refine_alphas(cells, 3, recipe) == ["0.2", "0.3", "0.4", "0.5", "0.6"]
    cells = [screened(None, "0", "1"), screened(3, "0.2", "2"), screened(3, "0.4", "4", facts="0"), screened(3, "0.6", "5", facts="0")]
    assert refine_alphas(cells, 3, recipe) == ["0.1", "0.2", "0.3", "0.4"]


def test_the_dose_response_prefers_the_larger_measurement(swept: Sweep) -> None:
    layer = swept.layers[0]
    curve = dose_response(swept.cells, layer)
    assert [Decimal(cell["alpha"]) for cell in curve] == sorted({Decimal(cell["alpha"]) for cell in curve})
    assert {"0", "0.5", "1"} <= {cell["alpha"] for cell in curve}
    assert all(cell["stage"] == "final" for cell in curve if cell["alpha"] == swept.chosen["alpha"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"alphas": ["0.5", "1"]}, "ALPHA_GRID"),
        ({"alphas": ["0"]}, "ALPHA_GRID"),
        ({"alphas": ["0", "0.5", "0.50"]}, "ALPHA_GRID"),
        ({"alphas": ["0", "NaN"]}, "ALPHA_FORMAT"),
        ({"alphas": ["0", "1e309"]}, "ALPHA_FORMAT"),
        ({"alphas": ["0", "1001"]}, "ALPHA_RANGE"),
        ({"unit": "volts"}, "UNIT_UNKNOWN"),
        ({"scope": "somewhere"}, "SCOPE_UNKNOWN"),
        ({"operator": "clamp"}, "OPERATOR_UNKNOWN"),
        ({"finalists": 0}, "RECIPE_INVALID"),
        ({"charm": 1}, "RECIPE_INVALID"),
        ({"gates": [{"metric": "charm"}]}, "GATE_INVALID"),
    ],
)
def test_a_recipe_that_cannot_be_cooked_is_refused(change: dict, code: str) -> None:
    with pytest.raises(SteerError) as refused:
        SweepRecipe.from_document({**SweepRecipe().to_document(), **change})
    assert refused.value.code == code


def test_a_recipe_survives_its_document() -> None:
    assert SweepRecipe.from_document(RECIPE.to_document()).to_document() == RECIPE.to_document()


def test_evidence_is_canonical_and_repeats_but_for_the_clock(
    llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer, swept: Sweep
) -> None:
    candidate = Candidate("f" * 64, directions[2], "0.5")
    seen: list[tuple[int, int]] = []
    first, second = (
        evaluate(
            llama,
            candidate,
            suites,
            scorer,
            max_new_tokens=4,
            curve=swept.curve(2),
            on_progress=lambda done, total: seen.append((done, total)),
        )
        for _ in range(2)
    )
    assert parse_strict(canonical_json(first)) == first
    assert len(sha256_hex(canonical_json(first))) == 64
    assert {key: value for key, value in first.items() if key != "speed"} == {key: value for key, value in second.items() if key != "speed"}
    assert seen[-1] == (14, 14)
    assert first["run"]["suites"] == {kind: suite.digest for kind, suite in suites.items()}
    assert first["items"] == {"behaviour": 3, "facts": 2, "refusals": 2}
    assert [judged["metric"] for judged in first["gates"]] == ["behaviour", "facts", "refusals", "perplexity_ratio", "layer_depth"]
    assert first["verdict"] == ("pass" if all(judged["verdict"] == "pass" for judged in first["gates"]) else "fail")
    assert [reply["item"] for reply in first["replies"]] == ["be-te-0", "be-te-1", "be-te-2"]


def test_evidence_at_zero_shows_no_difference(llama: LoadedModel, directions: tuple, suites: dict, scorer: RubricScorer) -> None:
    evidence = evaluate(llama, Candidate("f" * 64, directions[2], "0"), suites, scorer, max_new_tokens=4)
    for name in ("behaviour", "facts", "refusals"):
        assert evidence["metrics"][name]["difference"]["value"] == "0"
    assert evidence["metrics"]["perplexity_ratio"]["steered"]["value"] == "1"
    assert all(reply["baseline"] == reply["steered"] for reply in evidence["replies"])


def test_the_heat_map_is_a_png_that_repeats(swept: Sweep) -> None:
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
