"""Probes: trained on labelled prompts, calibrated on held-out ones, decided row by row on unsteered activations."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from steernode.canonical import canonical_json, sha256_hex
from steernode.engine.access.encoding import encode_prompt
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.applying.conditions import decide, gate_rows
from steernode.engine.applying.generate import generate
from steernode.engine.reading.probes import Probe, TrainedProbe, train_probe
from steernode.engine.reading.roc import calibrate
from steernode.errors import EngineError, LayerError
from steernode.files.vectors import read_vector
from steernode.snapshot.conditions import ProbeCondition, parse_condition
from tests.support.tiny_models import ask, count_hooks
from tests.support.tiny_words import WORDS

ABOUT = [ask(f"refund {first} {second}") for first, second in product(WORDS[:5], WORDS[5:9])]
OTHER = [ask(f"{first} {second} the card") for first, second in product(WORDS[:5], WORDS[5:9])]


@pytest.fixture(scope="module")
def trained(llama: LoadedModel) -> TrainedProbe:
    return train_probe(llama, ABOUT, OTHER, layer=2, read_position="all")


@pytest.mark.parametrize(
    ("positive", "negative", "options", "code", "item"),
    [
        ([], OTHER, {}, "PROBE_ONE_CLASS", "positive"),
        (ABOUT, [], {}, "PROBE_ONE_CLASS", "negative"),
        (ABOUT[:1] * 5, OTHER, {}, "PROBE_TOO_FEW", "positive"),
        (ABOUT, [*OTHER, ABOUT[3]], {}, "PROBE_CONTRADICTION", ABOUT[3][0].content),
        (ABOUT, OTHER, {"layer": 4}, "LAYER_RANGE", "4"),
        (ABOUT, OTHER, {"site": "head"}, "SITE_UNKNOWN", "head"),
        (ABOUT, OTHER, {"read_position": "assistant_tokens"}, "READ_POSITION_UNKNOWN", "assistant_tokens"),
        (ABOUT, OTHER, {"target_false_positive_rate": 1.5}, "PROBE_TARGET", "1.5"),
        (ABOUT, OTHER, {"target_false_positive_rate": float("nan")}, "PROBE_TARGET", "nan"),
    ],
)
def test_a_probe_that_cannot_be_trained_is_refused_by_name(
    llama: LoadedModel, positive: list, negative: list, options: dict, code: str, item: str
) -> None:
    with pytest.raises((EngineError, LayerError)) as refused:
        train_probe(llama, positive, negative, **{"layer": 1, **options})
    assert (refused.value.code, refused.value.item) == (code, item)


def test_a_last_token_that_never_differs_gives_no_probe(llama: LoadedModel) -> None:
    # At the embedding, the last prompt token is the same token in every prompt.
    with pytest.raises(EngineError) as refused:
        train_probe(llama, ABOUT, OTHER, layer=0, site="embedding")
    assert refused.value.code == "PROBE_CONSTANT"


def test_a_probe_fires_on_prompts_like_the_positive_ones(llama: LoadedModel, trained: TrainedProbe) -> None:
    unseen = [ask("refund please card"), ask("refund five days"), ask("thank you the card"), ask("sorry now the card")]
    fires = decide(llama, [trained.probe], [encode_prompt(llama, prompt) for prompt in unseen])
    assert fires[:, 0].tolist() == [True, True, False, False]


def test_the_order_of_prompts_and_repetitions_change_nothing(llama: LoadedModel, trained: TrainedProbe) -> None:
    again = train_probe(llama, [*ABOUT[::-1], ABOUT[0]], OTHER[::-1], layer=2, read_position="all")
    assert again.vector_file == trained.vector_file
    assert canonical_json(again.document) == canonical_json(trained.document)


def test_its_document_is_canonical_and_holds_the_curve_it_was_calibrated_on(llama: LoadedModel, trained: TrainedProbe) -> None:
    document = trained.document
    assert canonical_json(document)
    assert document["base_model_fingerprint"] == llama.fingerprint
    calibration = document["calibration"]
    assert (calibration["rule"], calibration["positives"], calibration["negatives"]) == ("youden_j", 20, 20)
    assert 0.9 <= float(calibration["auc"]) <= 1
    assert calibration["roc"][-1]["true_positive_rate"] == calibration["roc"][-1]["false_positive_rate"] == "1"


def test_a_stored_probe_decides_what_the_trained_one_decides(llama: LoadedModel, trained: TrainedProbe) -> None:
    stored = read_vector(trained.vector_file, d_model=llama.d_model)
    assert stored.digest == sha256_hex(trained.vector_file) == trained.document["vector"]["sha256"]
    assert stored.lineage["method"] == "logistic_probe"
    condition = parse_condition(trained.condition)
    assert isinstance(condition, ProbeCondition)
    again = Probe.from_condition(condition, torch.from_numpy(stored.direction.copy()))
    assert torch.equal(again.direction, trained.probe.direction)
    assert (again.scale, again.bias, again.threshold) == (trained.probe.scale, trained.probe.bias, trained.probe.threshold)


def test_a_planted_probe_fires_exactly_past_its_threshold(llama: LoadedModel) -> None:
    direction = torch.zeros(llama.d_model)
    direction[3] = 1.0
    probe = Probe(direction, 1, "resid_post", "last_prompt_token", scale=2.0, bias=0.5, threshold=0.0)
    prompts = [encode_prompt(llama, prompt) for prompt in (*ABOUT, *OTHER)]
    scores = 2.0 * torch.tensor([measure_last(llama, prompt.token_ids, 3) for prompt in prompts]) + 0.5
    middle = float(scores.median())
    fires = decide(llama, [probe, replace(probe, threshold=middle)], prompts)
    assert torch.equal(fires[:, 0], scores >= 0)
    assert fires[:, 1].sum() in (20, 21)


def measure_last(loaded: LoadedModel, token_ids: tuple[int, ...], dimension: int) -> float:
    seen: list[float] = []
    handle = loaded.blocks[1].register_forward_hook(lambda _module, _args, output: seen.append(float(output[0, -1, dimension])))
    with torch.inference_mode():
        loaded.model(torch.tensor([token_ids]))
    handle.remove()
    return seen[0]


def test_each_row_of_a_batch_is_decided_and_steered_for_itself(llama: LoadedModel, trained: TrainedProbe) -> None:
    conversations = [ABOUT[0], OTHER[0], OTHER[1], ABOUT[1]]
    direction = torch.randn(llama.d_model, generator=torch.Generator().manual_seed(1))
    component = Component(direction / direction.norm(), 1, 30.0)
    hooks = count_hooks(llama)
    fires = decide(llama, [trained.probe], [encode_prompt(llama, conversation) for conversation in conversations])
    assert count_hooks(llama) == hooks
    rows = gate_rows(torch.full((4, 1), 30.0), fires)
    replies = generate(llama, conversations, components=[component], row_coefficients=rows, max_new_tokens=8)
    steered = generate(llama, conversations, components=[component], max_new_tokens=8)
    plain = generate(llama, conversations, max_new_tokens=8)
    assert fires[:, 0].tolist() == [True, False, False, True]
    for row, fired in enumerate(fires[:, 0].tolist()):
        assert replies[row].text.encode() == (steered if fired else plain)[row].text.encode()


def test_a_row_that_does_not_fire_gets_zero_even_where_the_coefficient_is_no_number() -> None:
    gated = gate_rows(torch.tensor([[float("inf"), 2.0]]), torch.tensor([[False, True]]))
    assert gated.tolist() == [[0.0, 2.0]]


SCORES = st.lists(st.tuples(st.integers(-6, 6).map(float), st.booleans()), min_size=4, max_size=30).filter(
    lambda items: len({label for _, label in items}) == 2
)


@settings(max_examples=80, deadline=None)
@given(items=SCORES, target=st.none() | st.sampled_from([0.0, 0.1, 0.5]))
def test_a_threshold_is_the_best_that_its_rule_allows(items: list[tuple[float, bool]], target: float | None) -> None:
    scores, labels = np.array([score for score, _ in items]), np.array([int(label) for _, label in items])

    def rates(threshold: float) -> tuple[float, float]:
        fires = scores >= threshold
        return float(fires[labels == 0].mean()), float(fires[labels == 1].mean())

    possible = [rates(threshold) for threshold in np.unique(scores)]
    allowed = [(false, true) for false, true in possible if target is None or (false <= target and true > 0)]
    if not allowed:
        with pytest.raises(EngineError) as refused:
            calibrate(scores, labels, target)
        assert refused.value.code == "PROBE_TARGET"
        return
    calibration = calibrate(scores, labels, target)
    false, true = rates(calibration.threshold)
    assert (false, true) == (calibration.chosen.false_positive_rate, calibration.chosen.true_positive_rate)
    if target is None:
        assert true - false == max(true - false for false, true in allowed)
    else:
        assert false <= target
        assert true == max(true for _, true in allowed)
    assert calibration.threshold not in scores
    # The area is that of the curve, by the trapezoid rule, and the library's.
    curve = [(0.0, 0.0), *((point.false_positive_rate, point.true_positive_rate) for point in calibration.curve)]
    area = sum((right[0] - left[0]) * (right[1] + left[1]) / 2 for left, right in pairwise(curve))
    assert area == pytest.approx(calibration.auc, abs=1e-9)
    assert calibration.auc == roc_auc_score(labels, scores)
