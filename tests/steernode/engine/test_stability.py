"""How far a direction moves with other pairs, and how large it is beside what it is added to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from steernode.engine.access.encoding import encode_prompts
from steernode.engine.judging.evaluate import evaluate
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.engine.reading.stability import DRAWS, FEWER_DRAWS, measure_norms, measure_stability
from steernode.files.splits import split_pairs
from tests.support.candidates import make_candidate
from tests.support.planted_models import CountWarmTokens, Planted, plant, write_pairs, write_suites

PAIRS = write_pairs()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), 2)


def read(planted: Planted, pairs: Any, method: str = "mean_difference") -> LayerDirection:
    return extract_directions(planted.loaded, pairs, method=method, layers=[planted.layer])[0]


def test_a_direction_that_all_pairs_share_stays_and_one_of_mixed_labels_does_not(planted: Planted) -> None:
    cosines = measure_stability(planted.loaded, PAIRS, read(planted, PAIRS), seed=0)
    assert len(cosines) == DRAWS
    assert np.quantile(cosines, 0.05) > 0.99
    mixed = [replace(pair, positive=pair.negative, negative=pair.positive) if row % 2 else pair for row, pair in enumerate(PAIRS)]
    assert np.quantile(measure_stability(planted.loaded, mixed, read(planted, PAIRS), seed=0), 0.05) < 0.5
    assert (measure_stability(planted.loaded, PAIRS, read(planted, PAIRS), seed=0) == cosines).all()


def test_another_method_is_drawn_again_by_itself(planted: Planted) -> None:
    found = measure_stability(planted.loaded, PAIRS[:20], read(planted, PAIRS, "pca_uncentred"), seed=0)
    assert len(found) == FEWER_DRAWS
    assert found.min() > 0.9


def test_pairs_that_ask_the_same_are_drawn_together(planted: Planted) -> None:
    same = [replace(PAIRS[0], id=f"{number}") for number in range(6)]
    assert measure_stability(planted.loaded, same, read(planted, PAIRS), seed=0) == pytest.approx(1.0)


def test_evidence_says_both_beside_the_coefficient(planted: Planted) -> None:
    parts, suites = split_pairs(PAIRS), write_suites()
    direction = read(planted, parts["extract"])
    gates = [{"metric": "stability", "kind": "min_low", "threshold": "0.9"}]
    options = {"pairs": parts, "max_new_tokens": 4}
    evidence = evaluate(planted.loaded, make_candidate(direction, "-0.5"), suites, CountWarmTokens(), gates, **options).document
    assert (evidence["verdict"], evidence["metrics"]["stability"]["steered"]["method"]) == ("pass", "draws")
    asked = [item.messages for item in suites["behaviour"].split("test")]
    norms = measure_norms(planted.loaded, encode_prompts(planted.loaded, asked), direction)
    assert float(evidence["dose"]["share"]["value"]) == pytest.approx(np.mean(0.5 * direction.norm / norms), rel=1e-4)
    ablated = make_candidate(direction, "1", operator="ablate")
    assert "dose" not in evaluate(planted.loaded, ablated, suites, CountWarmTokens(), max_new_tokens=4).document
