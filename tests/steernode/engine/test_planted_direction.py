"""The proof: a direction that was planted is found at its layer, and what was not planted is stopped at the gates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from steernode.engine.judging.controls import random_unit_directions, shuffle_labels
from steernode.engine.judging.evaluate import Evaluation
from steernode.engine.measuring.margins import margin_items
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.engine.searching.recipe import SweepRecipe
from steernode.engine.searching.search import Search
from steernode.engine.searching.sweep import sweep
from steernode.errors import EngineError
from steernode.files.splits import split_pairs
from tests.support.candidates import make_candidate
from tests.support.planted_models import CountWarmTokens, Planted, plant, write_pairs, write_suites

SEEDS = range(10)
# The two styles share no word, so that the warm one is no fluent text of the cold model and perplexity is no gate here.
GATES = tuple(
    {"metric": metric, "kind": kind, "threshold": threshold}
    for metric, kind, threshold in (
        ("behaviour", "min_difference", "0.5"),
        ("facts", "min_difference", "-0.02"),
        ("refusals", "min_difference", "-0.02"),
        ("layer_depth", "below", "0.8"),
    )
)
EVIDENCE_GATES = (
    *GATES,
    {"metric": "slope", "kind": "above_low", "threshold": "0"},
    {"metric": "slope_over_random", "kind": "above_low", "threshold": "0"},
    {"metric": "ood_ratio", "kind": "min", "threshold": "0.5"},
)
PAIRS = split_pairs(write_pairs())
SUITES = write_suites()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> list[Planted]:
    return [plant(tmp_path_factory.mktemp(f"planted-{seed}"), seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def extracted(planted: list[Planted]) -> list[tuple[LayerDirection, ...]]:
    return [extract_directions(each.loaded, PAIRS["extract"]) for each in planted]


def search(each: Planted, directions: tuple[LayerDirection, ...]) -> Search:
    """The engine's own search, told nothing of the planted layer."""
    recipe = SweepRecipe(alphas=("0", "0.5", "1"), screen_items=3, finalists=1, max_new_tokens=5, gates=GATES)
    return sweep(each.loaded, directions, SUITES, CountWarmTokens(), recipe, items=margin_items(each.loaded, PAIRS["select"]))


def is_rejected(each: Planted, direction: LayerDirection) -> bool:
    """Whether the gates stop it in every cell of a search at its layer."""
    recipe = SweepRecipe(layers=(direction.layer,), alphas=("0", "1"), screen="none", refine=False, max_new_tokens=5, gates=GATES)
    try:
        sweep(each.loaded, [direction], SUITES, CountWarmTokens(), recipe)
    except EngineError as error:
        return error.code == "NO_CELL_PASSES"
    return False


@pytest.mark.parametrize("seed", SEEDS)
def test_the_planted_layer_and_direction_are_found(planted: list[Planted], extracted: list, seed: int) -> None:
    each, directions = planted[seed], extracted[seed]
    found = search(each, directions)
    assert found.chosen["layer"] == each.layer
    assert float(found.chosen["behaviour"]) > 4
    assert float(directions[each.layer].direction @ each.direction) >= 0.95


def test_the_planted_vector_passes_every_gate_of_the_evidence(planted: list[Planted], extracted: list) -> None:
    for each, directions in zip(planted[:3], extracted[:3], strict=True):
        candidate = make_candidate(directions[each.layer], "0.5")
        evidence = Evaluation(each.loaded, candidate, SUITES, CountWarmTokens(), EVIDENCE_GATES, pairs=PAIRS, max_new_tokens=5).finish()
        assert [judged for judged in evidence.gates if judged.verdict != "pass"] == []


def test_every_random_vector_of_the_same_norm_is_rejected(planted: list[Planted], extracted: list) -> None:
    rejected = 0
    for seed, (each, directions) in enumerate(zip(planted, extracted, strict=True)):
        for random in random_unit_directions(each.loaded.d_model, 4, seed=1000 + seed):
            rejected += is_rejected(each, replace(directions[each.layer], direction=random))
    assert rejected == 40


def test_every_vector_of_the_wrong_sign_is_rejected(planted: list[Planted], extracted: list) -> None:
    rejected = 0
    for seed, (each, directions) in enumerate(zip(planted, extracted, strict=True)):
        true = directions[each.layer]
        for random in random_unit_directions(each.loaded.d_model, 3, seed=2000 + seed):
            tilted = torch.nn.functional.normalize(-true.direction + 0.3 * random, dim=0)
            rejected += is_rejected(each, replace(true, direction=tilted))
    assert rejected == 30


def test_every_vector_of_shuffled_labels_is_rejected(planted: list[Planted], extracted: list) -> None:
    rejected = 0
    for seed, (each, directions) in enumerate(zip(planted, extracted, strict=True)):
        shuffled = shuffle_labels(each.loaded, PAIRS["extract"], directions[each.layer], seed=seed)
        assert len(shuffled) == 3
        rejected += sum(is_rejected(each, direction) for direction in shuffled)
    assert rejected == 30


def test_the_proof_can_fail(planted: list[Planted], extracted: list) -> None:
    """The same checks on what they must not accept: the true vector is not rejected, and another layer's is not the planted one."""
    each, directions = planted[0], extracted[0]
    assert not is_rejected(each, directions[each.layer])
    assert abs(float(directions[each.layer - 1].direction @ each.direction)) < 0.5
    assert is_rejected(each, directions[each.layer - 1])


def test_models_are_planted_at_different_layers(planted: list[Planted]) -> None:
    assert {each.layer for each in planted} == {3, 4, 5}


def test_the_planted_folder_holds_a_model_like_any_other(planted: list[Planted], tmp_path: Path) -> None:
    again = plant(tmp_path, 0)
    assert again.loaded.fingerprint == planted[0].loaded.fingerprint
