"""How far a direction moves with other pairs, and how large it is beside what it is added to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from steernode.engine.access.encoding import encode_prompts
from steernode.engine.judging.contrastevidence import ContrastEvidence
from steernode.engine.judging.controls import random_unit_directions
from steernode.engine.judging.evaluate import Evaluation
from steernode.engine.measuring.gates import judge_evidence
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
    cosines, questions = measure_stability(planted.loaded, PAIRS, read(planted, PAIRS), seed=0)
    assert (len(cosines), questions) == (DRAWS, len(PAIRS))
    assert np.quantile(cosines, 0.05) > 0.99
    mixed = [replace(pair, positive=pair.negative, negative=pair.positive) if row % 2 else pair for row, pair in enumerate(PAIRS)]
    assert np.quantile(measure_stability(planted.loaded, mixed, read(planted, PAIRS), seed=0).cosines, 0.05) < 0.5
    assert (measure_stability(planted.loaded, PAIRS, read(planted, PAIRS), seed=0).cosines == cosines).all()


def test_it_is_that_of_the_direction_and_not_of_the_pairs_that_it_names(planted: Planted) -> None:
    direction = read(planted, PAIRS)
    [drawn] = random_unit_directions(len(direction.direction), 1)
    elsewhere = replace(direction, direction=drawn)
    assert np.quantile(np.abs(measure_stability(planted.loaded, PAIRS, elsewhere, seed=0).cosines), 0.95) < 0.5
    opposite = replace(direction, direction=-direction.direction)
    assert measure_stability(planted.loaded, PAIRS, opposite, seed=0).cosines.max() < -0.9


def test_another_method_is_drawn_again_by_itself(planted: Planted) -> None:
    found = measure_stability(planted.loaded, PAIRS[:20], read(planted, PAIRS, "pca_uncentred"), seed=0).cosines
    assert len(found) == FEWER_DRAWS
    assert found.min() > 0.9


def test_pairs_that_ask_the_same_are_drawn_together(planted: Planted) -> None:
    same = [replace(PAIRS[0], id=f"{number}") for number in range(6)]
    cosines, questions = measure_stability(planted.loaded, same, read(planted, same), seed=0)
    assert (cosines, questions) == (pytest.approx(np.ones(DRAWS)), 1)


@pytest.mark.parametrize(("questions", "verdict"), [(7, "undecidable"), (8, "pass")])
def test_few_questions_leave_it_undecidable_however_many_pairs_ask_them(planted: Planted, questions: int, verdict: str) -> None:
    asked = [replace(pair, id=f"{pair.id}-{again}") for again in range(4) for pair in PAIRS[:questions]]
    direction, parts = read(planted, asked), {"extract": asked, "test": PAIRS[-12:]}
    found = ContrastEvidence(direction, make_candidate(direction, "-0.5").component(), "-0.5", "mean_difference", parts)
    found.measure_dose(planted.loaded)
    found.measure_controls(planted.loaded)
    gates = [{"metric": "stability", "kind": "min_low", "threshold": "0.9"}]
    [judged] = judge_evidence(gates, found.metrics())
    assert (judged["verdict"], judged.get("code")) == (verdict, "ITEMS_FEW" if verdict == "undecidable" else None)
    assert found.metrics()["stability"]["steered"]["clusters"] == questions


def test_without_pairs_to_draw_from_a_gate_on_it_is_refused_beforehand(planted: Planted) -> None:
    direction = read(planted, PAIRS)
    found = ContrastEvidence(direction, make_candidate(direction, "1").component(), "1", "mean_difference", {"test": PAIRS})
    assert list(found.missing) == ["stability"]


def test_evidence_says_both_beside_the_coefficient(planted: Planted) -> None:
    parts, suites = split_pairs(PAIRS), write_suites()
    direction = read(planted, parts["extract"])
    gates = [{"metric": "stability", "kind": "min_low", "threshold": "0.9"}]
    options = {"pairs": parts, "max_new_tokens": 4}
    evidence = Evaluation(planted.loaded, make_candidate(direction, "-0.5"), suites, CountWarmTokens(), gates, **options).finish().document
    assert (evidence["verdict"], evidence["metrics"]["stability"]["steered"]["method"]) == ("pass", "draws")
    asked = [item.messages for item in suites["behaviour"].split("test")]
    norms = measure_norms(planted.loaded, encode_prompts(planted.loaded, asked), direction)
    assert float(evidence["dose"]["share"]["value"]) == pytest.approx(np.mean(0.5 * direction.norm / norms), rel=1e-4)
    ablated = make_candidate(direction, "1", operator="ablate")
    assert "dose" not in Evaluation(planted.loaded, ablated, suites, CountWarmTokens(), max_new_tokens=4).finish().document
