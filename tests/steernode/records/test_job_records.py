"""Recipes, sweeps and evidence: documents that are read into frozen records and come back as they were."""

from dataclasses import FrozenInstanceError, replace
from decimal import Decimal

import pytest

from steernode.canonical import canonical_json, parse_strict
from steernode.errors import EngineError
from steernode.records.evidence import Estimate, blocking_gates, read_evidence, read_gates
from steernode.records.recipe import ExtractionRecipe, ValidationRecipe
from steernode.records.sweep import read_sweep

RECIPE = ValidationRecipe(alpha="0.5", unit="residual", gates=({"metric": "facts", "kind": "min", "threshold": "0.9"},), max_new_tokens=8)
EVIDENCE = {
    "schema": "steerhub.evidence/1",
    "verdict": "fail",
    "metrics": {
        "facts": {"baseline": {"n": 6, "value": "0.98", "low": "0.95", "high": "1"}, "steered": {"n": 6, "value": "0.9"}},
        "factual": {"baseline": "0.95", "steered": "0.94"},
    },
    "gates": [{"metric": "facts", "kind": "min", "threshold": "0.95", "value": "0.9", "verdict": "fail"}],
    "unheard_of": {"kept": ["as", 1, "was"]},
}


def test_a_recipe_survives_its_document() -> None:
    assert ValidationRecipe.from_document(parse_strict(canonical_json(RECIPE.to_document()))) == RECIPE


def test_a_recipe_with_a_field_nobody_knows_is_refused_by_its_name() -> None:
    with pytest.raises(EngineError) as refused:
        ValidationRecipe.from_document({**RECIPE.to_document(), "charm": 1})
    assert (refused.value.code, refused.value.item) == ("RECIPE_INVALID", "charm")


def test_a_recipe_from_when_it_had_a_seed_is_read_without_it() -> None:
    recipe = ExtractionRecipe(
        vector="warm", method="mean_difference", site="resid_post", read_position="last_prompt_token", layers=(2,), alphas=("0", "1"),
        unit="residual", gates="default", dtype="F32", max_new_tokens=8, finalists=1,
    )  # fmt: skip
    assert ExtractionRecipe.from_document({**recipe.to_document(), "seed": 7}) == recipe
    # Before it was asked for, every search was traced.
    assert ExtractionRecipe.from_document({name: value for name, value in recipe.to_document().items() if name != "trace"}).trace
    assert "seed" not in recipe.to_document()


def test_a_recipe_that_says_nothing_of_where_and_under_what_is_written_as_it_was_before_it_could() -> None:
    assert not {"system_message", "condition"} & set(RECIPE.to_document())
    said = replace(RECIPE, system_message="Serve Harbor.", condition={"kind": "intent", "labels": ["billing", "refund"]})
    document = parse_strict(canonical_json(said.to_document()))
    assert document["condition"] == {"kind": "intent", "labels": ["billing", "refund"]}
    assert ValidationRecipe.from_document(document) == said


def test_evidence_says_in_words_where_and_under_what_it_was_measured() -> None:
    run, acting = {"system_message": "Serve Harbor."}, {"behaviour": {"items": 6, "acts_on": 3}, "facts": {"items": 6, "acts_on": 4}}
    evidence = read_evidence({**EVIDENCE, "run": run, "acting": acting})
    assert (evidence.system_message, evidence.acting) == ("Serve Harbor.", "3 of 6 tickets, 4 of 6 facts")
    assert (read_evidence(EVIDENCE).system_message, read_evidence(EVIDENCE).acting) == ("", "")


def test_evidence_keeps_the_document_that_its_digest_is_of() -> None:
    data = canonical_json(EVIDENCE)
    assert canonical_json(read_evidence(parse_strict(data)).document) == data


def test_evidence_of_before_intervals_is_read_as_the_values_that_it_states() -> None:
    metrics = read_evidence(EVIDENCE).metrics
    assert metrics["facts"].baseline == Estimate(Decimal("0.98"), Decimal("0.95"), Decimal(1), 6)
    assert metrics["factual"].steered == Estimate(Decimal("0.94"))
    assert metrics["factual"].difference is None


def test_a_search_without_a_window_is_read_with_what_came_nearest_and_one_of_before_without() -> None:
    nearest = {"layer": 16, "alpha": "0.85", "sentence": "only facts stops it"}
    ties = {"layers": [15, 16], "sentence": "layers 15 and 16 cannot be told apart"}
    sweep = read_sweep({"cells": [], "nearest": nearest, "ties": ties})
    assert (sweep.shown, sweep.nearest.sentence, sweep.findings) == ((16, Decimal("0.85")), "only facts stops it", (ties["sentence"],))
    before = read_sweep({"schema": "steerhub.sweep/1", "chosen": {"layer": 2, "alpha": "0.5"}})
    assert (before.shown, before.nearest, before.findings) == ((2, Decimal("0.5")), None, ())
    assert read_sweep({}).shown is None


def test_a_record_cannot_be_changed_after_it_was_read() -> None:
    evidence = read_evidence(EVIDENCE)
    assert not evidence.passed
    with pytest.raises(FrozenInstanceError):
        evidence.verdict = "pass"
    assert replace(evidence, verdict="pass").passed


def test_only_a_verdict_of_pass_has_passed() -> None:
    assert not read_evidence({}).passed


def test_what_blocks_is_what_failed_and_else_what_is_undecidable() -> None:
    gate = {"metric": "facts", "kind": "max_high", "threshold": "0.02", "value": "0.05", "note": "more items", "code": "ITEMS_FEW"}
    verdicts = {"pass": [], "undecidable pass": ["undecidable"], "undecidable fail": ["fail"], "unheard-of undecidable": ["unheard-of"]}
    for found, blocking in verdicts.items():
        gates = read_gates([{**gate, "verdict": verdict} for verdict in found.split()])
        assert [judged.verdict for judged in blocking_gates(gates)] == blocking
    assert read_gates([{**gate, "verdict": "undecidable"}])[0].describe() == "facts (more items)"
    assert read_gates([{**gate, "verdict": "fail"}])[0].describe() == "facts (0.05, threshold 0.02; more items)"


def test_what_a_prompt_alone_does_is_read_where_the_document_says_it() -> None:
    metrics = read_evidence({"metrics": {"facts": {"baseline": "0.9", "steered": "0.8", "prompt": {"value": "0.7", "n": 6}}}}).metrics
    assert metrics["facts"].prompt == Estimate(Decimal("0.7"), n=6)
    assert read_evidence(EVIDENCE).metrics["facts"].prompt is None


def test_a_curve_is_read_by_rising_coefficient_and_without_what_is_no_cell() -> None:
    cells = [{"alpha": "0.5", "facts": "0.9"}, {"alpha": "x"}, 7, {"alpha": "-1", "facts": "NaN"}]
    curve = read_sweep({"curve": cells}).curve
    assert [(cell.alpha, dict(cell.values).get("facts")) for cell in curve] == [(-1, None), (Decimal("0.5"), Decimal("0.9"))]
    assert curve[1].document == cells[0]
