"""An evaluation that ends at its first failed gate comes to the verdict of the whole one, and does no more than it has to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from steernode.engine.access.work import Work
from steernode.engine.judging import stages
from steernode.engine.judging.candidate import Candidate
from steernode.engine.judging.evaluate import Evaluation, judge_in_stages
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.errors import EngineError
from steernode.files.splits import split_pairs
from tests.support.candidates import make_candidate
from tests.support.planted_models import CountWarmTokens, Planted, plant, write_pairs, write_suites

PAIRS, SUITES = split_pairs(write_pairs()), write_suites()


class Stages(Work):
    def __init__(self) -> None:
        self.entered: list[str] = []

    def enter(self, stage: str) -> None:
        self.entered.append(stage)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), 2)


@pytest.fixture(scope="module")
def direction(planted: Planted) -> LayerDirection:
    return extract_directions(planted.loaded, PAIRS["extract"], layers=[planted.layer])[0]


def gate(metric: str, kind: str, threshold: str) -> dict[str, str]:
    return {"metric": metric, "kind": kind, "threshold": threshold}


STEERS, IS_STEADY = gate("behaviour", "min_difference", "0.5"), gate("slope", "above_low", "0")
FACTS, STANDS_OUT = gate("facts", "min_difference", "-0.02"), gate("slope_over_random", "above_low", "0")
NOTHING_LOST = gate("capability_lost", "max_high", "0.02")


def judge(planted: Planted, candidate: Candidate, gates: list[dict[str, str]]) -> tuple[str, list[dict], list[str]]:
    work = Stages()
    loaded = replace(planted.loaded, work=work)
    judged = judge_in_stages(Evaluation(loaded, candidate, SUITES, CountWarmTokens(), gates, pairs=PAIRS, max_new_tokens=5))
    return judged.verdict, list(judged.gates), work.entered


@pytest.mark.parametrize(
    ("gates", "verdict", "last"),
    [
        ([STEERS, IS_STEADY, FACTS, STANDS_OUT], "pass", stages.CONTROLS),
        # One cluster of facts shows nothing, and does not speak against it either.
        ([NOTHING_LOST, STEERS], "undecidable", stages.CONTROLS),
        ([STANDS_OUT, gate("behaviour", "min_difference", "4.1")], "fail", stages.TICKETS),
        ([gate("kl_p95", "max", "0.0001"), STEERS], "fail", stages.LOSSES),
        ([gate("layer_depth", "below", "0.1"), STEERS], "fail", None),
        # What is written only where a gate asks for it comes last, and is a stage like any other.
        ([gate("perplexity_over_random", "max", "0.0001"), STEERS], "fail", stages.RANDOM),
        ([gate("perplexity_over_random", "max", "100"), IS_STEADY], "pass", stages.RANDOM),
    ],
)
def test_the_staged_verdict_is_that_of_the_whole_evidence(
    planted: Planted, direction: LayerDirection, gates: list[dict[str, str]], verdict: str, last: str | None
) -> None:
    candidate = make_candidate(direction, "0.5")
    found, judged, entered = judge(planted, candidate, gates)
    assert found == verdict
    assert (entered[-1] if entered else None) == last
    whole = Evaluation(planted.loaded, candidate, SUITES, CountWarmTokens(), gates, pairs=PAIRS, max_new_tokens=5).finish().document
    assert whole["verdict"] == verdict
    assert all(each in whole["gates"] for each in judged)
    if verdict != "fail":
        assert len(judged) == len(gates)


def test_a_direction_that_does_nothing_ends_before_any_reply_is_steered(planted: Planted, direction: LayerDirection) -> None:
    drawn = torch.nn.functional.normalize(torch.randn(planted.loaded.d_model, generator=torch.Generator().manual_seed(5)), dim=0)
    verdict, judged, entered = judge(planted, make_candidate(replace(direction, direction=drawn), "0.5"), [STEERS, IS_STEADY])
    assert (verdict, [each["metric"] for each in judged]) == ("fail", ["slope"])
    assert entered == [stages.PAIRS, stages.DOSE]


def test_a_gate_that_no_stage_is_about_is_named(planted: Planted, direction: LayerDirection) -> None:
    still = Evaluation(planted.loaded, make_candidate(direction, "0.5"), SUITES, CountWarmTokens(), [STEERS], pairs=PAIRS, max_new_tokens=5)
    still.gates = (gate("refusal_margin_kept", "min", "0.5"),)
    with pytest.raises(EngineError) as refused:
        judge_in_stages(still)
    assert refused.value.code == "GATE_UNMEASURED"
