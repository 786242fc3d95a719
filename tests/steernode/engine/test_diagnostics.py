"""Diagnostics: planted faults in a contrast set are found, clean sets are left in peace."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steernode.canonical import canonical_json
from steernode.engine.access.models import LoadedModel
from steernode.engine.reading.diagnostics import Diagnostics, diagnose, find_leaks
from steernode.engine.reading.duplicates import find_near_duplicates, fold, make_shingles
from steernode.engine.reading.separation import d_prime, mean_pairwise_cosine, measure_separation, shuffled_cosines
from steernode.errors import ContrastSetError
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message
from tests.support.tiny_models import ask, count_hooks, make_pair, make_pairs
from tests.support.tiny_words import WORDS

MANY = [f"{one}{two}" for one in WORDS for two in WORDS]


def make_clean(count: int) -> list[ContrastPair]:
    """Questions that share no run of words; the same on both sides; both locales and product lines alike."""
    generator = random.Random(1)
    pairs = []
    for index in range(count):
        question = " ".join(generator.sample(MANY, 12))
        sides = ask(question, "be warm"), ask(question, "be cold")
        pairs.append(ContrastPair(f"p{index}", *sides, ("en-US", "en-GB")[index % 2], ("billing", "tech")[index // 2 % 2], "0" * 64))
    return pairs


def codes(diagnostics: Diagnostics) -> set[str]:
    return {finding.code for finding in diagnostics.findings}


def test_no_pairs_cannot_be_diagnosed(llama: LoadedModel) -> None:
    with pytest.raises(ContrastSetError) as refused:
        diagnose([])
    assert refused.value.code == "CONTRAST_EMPTY"
    with pytest.raises(ContrastSetError) as refused:
        diagnose(make_pairs(7), llama)
    assert refused.value.code == "PAIRS_TOO_FEW"


def test_a_clean_set_has_no_findings_and_a_canonical_document() -> None:
    diagnostics = diagnose(make_clean(500))
    assert diagnostics.findings == ()
    assert diagnostics.is_usable
    assert diagnostics.document["findings"] == []
    assert diagnostics.document["balance"]["locale"] == {"en-GB": 250, "en-US": 250}
    canonical_json(diagnostics.document)


def test_few_pairs_are_a_warning() -> None:
    diagnostics = diagnose(make_clean(499))
    assert codes(diagnostics) == {"PAIRS_FEW"}
    assert diagnostics.findings[0].severity == "warning"


def test_repeated_questions_are_found_whatever_their_case_and_punctuation() -> None:
    pairs = make_clean(500)
    for index in range(40):
        copied = pairs[index].positive[-1].content
        shouted = ask(copied.upper() + "!!", "be warm"), ask(copied.title(), "be cold")
        pairs[100 + index] = replace(pairs[100 + index], positive=shouted[0], negative=shouted[1])
    diagnostics = diagnose(pairs)
    assert codes(diagnostics) == {"NEAR_DUPLICATES"}
    assert diagnostics.document["near_duplicates"]["count"] == 40
    assert diagnostics.document["near_duplicates"]["examples"][0] == ["p100", "p0"]


def test_a_longer_side_is_a_length_confound() -> None:
    pairs = [
        replace(pair, negative=ask(pair.negative[-1].content, "be cold " * (5 + index % 3))) for index, pair in enumerate(make_clean(500))
    ]
    diagnostics = diagnose(pairs)
    assert codes(diagnostics) == {"LENGTH_CONFOUND"}
    assert any("negative side's system" in finding.sentence for finding in diagnostics.findings)
    assert float(diagnostics.document["length"]["system"]["d_prime"]) < -1


def test_a_word_that_marks_a_side_is_a_leak() -> None:
    pairs = [
        replace(
            pair,
            positive=ask(f"kindly asked {pair.positive[-1].content}", "be warm"),
            negative=ask(f"a b {pair.negative[-1].content}", "x y"),
        )
        if index % 5
        else pair
        for index, pair in enumerate(make_clean(500))
    ]
    diagnostics = diagnose(pairs)
    assert codes(diagnostics) == {"TEMPLATE_LEAK"}
    leaks = diagnostics.document["leakage"]["user"]
    assert {"text": "kindly asked", "accuracy": "0.9", "side": "positive"} in leaks


def test_leaks_in_answers_are_found_apart_from_those_in_questions() -> None:
    pairs = [
        replace(pair, positive=(*pair.positive, Message("assistant", "(A)")), negative=(*pair.negative, Message("assistant", "(B)")))
        for pair in make_clean(500)
    ]
    diagnostics = diagnose(pairs)
    assert codes(diagnostics) == {"TEMPLATE_LEAK"}
    assert diagnostics.document["leakage"]["user"] == []
    assert {leak["text"] for leak in diagnostics.document["leakage"]["assistant"]} == {"a", "b"}


def test_a_locale_with_few_pairs_is_named() -> None:
    pairs = [replace(pair, locale="en-GB" if index < 30 else "en-US") for index, pair in enumerate(make_clean(500))]
    [finding] = diagnose(pairs).findings
    assert finding.code == "UNBALANCED"
    assert "'en-GB' has 30 of 500" in finding.sentence


def test_pairs_without_a_locale_are_counted() -> None:
    pairs = [replace(pair, locale="" if index % 2 else "en-US") for index, pair in enumerate(make_clean(500))]
    assert codes(diagnose(pairs)) == {"GROUP_MISSING"}


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(tuple), max_size=14),
    threshold=st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
def test_near_duplicates_are_those_that_comparing_every_pair_finds(texts: list[tuple[str, ...]], threshold: float) -> None:
    expected: dict[int, int] = {}
    for index, words in enumerate(texts):
        one = make_shingles(words)
        kept = [earlier for earlier in range(index) if earlier not in expected]
        similar = [e for e in kept if len(one & make_shingles(texts[e])) >= threshold * len(one | make_shingles(texts[e]))]
        if similar:
            expected[index] = similar[0]
    found = find_near_duplicates(texts, threshold)
    assert set(found) == set(expected)
    for index, earlier in found.items():
        one, other = make_shingles(texts[index]), make_shingles(texts[earlier])
        assert len(one & other) >= threshold * len(one | other)


def test_twenty_thousand_texts_from_one_template_are_compared_quickly() -> None:
    generator = random.Random(3)
    texts = [fold("please help me with my order, " + " ".join(generator.sample(MANY, 8)) + " thank you very much") for _ in range(20_000)]
    started = time.process_time()
    assert find_near_duplicates(texts) == {}
    assert time.process_time() - started < 10


def test_leaks_are_measured_by_what_a_single_rule_gets_right() -> None:
    positive = [["so", "sorry", str(index)] for index in range(8)] + [["no"], ["no"]]
    negative = [["so", str(index)] for index in range(10)]
    found = {text: (accuracy, side) for text, accuracy, side in find_leaks(positive, negative)}
    assert found == {"sorry": (0.9, "positive"), "so sorry": (0.9, "positive")}


def test_the_mean_cosine_is_the_mean_over_all_pairs_of_pairs() -> None:
    differences = np.random.default_rng(0).normal(size=(7, 5))
    units = differences / np.linalg.norm(differences, axis=1, keepdims=True)
    expected = np.mean([one @ other for one, other in itertools.combinations(units, 2)])
    assert mean_pairwise_cosine(differences) == pytest.approx(expected)
    assert mean_pairwise_cosine(np.ones((3, 4))) == pytest.approx(1)


def test_shuffled_labels_take_the_agreement_away() -> None:
    differences = np.random.default_rng(0).normal(size=(64, 16)) + 1
    shuffled = shuffled_cosines(differences)
    assert mean_pairwise_cosine(differences) > 0.4
    assert abs(shuffled.mean()) < 0.02
    assert np.quantile(shuffled, 0.95) < 0.1


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [([1.0, 3.0], [0.0, 2.0], 1.0), ([1.0], [1.0], 0.0), ([2.0, 2.0], [1.0, 1.0], 100.0), ([1.0, 1.0], [2.0, 2.0], -100.0)],
)
def test_d_prime_counts_standard_deviations(positive: list[float], negative: list[float], expected: float) -> None:
    assert d_prime(np.array(positive), np.array(negative)) == pytest.approx(expected)


def test_sides_that_a_model_tells_apart_agree_more_than_shuffled_ones(llama: LoadedModel) -> None:
    pairs = [replace(pair, locale=("en-US", "en-GB")[index % 2]) for index, pair in enumerate(make_pairs(40))]
    before = count_hooks(llama)
    separation = measure_separation(llama, pairs)
    assert count_hooks(llama) == before
    assert [layer.layer for layer in separation.layers] == list(range(llama.n_layers))
    best = separation.best_layer
    assert best.is_consistent
    assert best.d_prime > 1
    assert set(best.groups["locale"]) == {"en-US", "en-GB"}
    assert best.groups["product"] == {"billing": pytest.approx(best.d_prime)}


def test_sides_swapped_at_random_have_no_common_direction(llama: LoadedModel) -> None:
    generator = random.Random(5)
    pairs = [
        replace(pair, positive=pair.negative, negative=pair.positive) if generator.random() < 0.5 else pair
        for pair in (make_pair(f"p{index}", " ".join(generator.sample(WORDS, 4))) for index in range(40))
    ]
    diagnostics = diagnose(pairs, llama)
    assert "DIFFERENCES_DISAGREE" in codes(diagnostics)
    assert not diagnostics.is_usable
    canonical_json(diagnostics.document)


def test_a_sample_does_not_depend_on_the_order_of_the_pairs(llama: LoadedModel) -> None:
    pairs = make_pairs(30)
    forward, backward = (diagnose(some, llama, sample_pairs=12, layers=[1, 2]).document["geometry"] for some in (pairs, pairs[::-1]))
    assert forward["pairs"] == 12
    for one, other in zip(forward["layers"], backward["layers"], strict=True):
        assert float(one["d_prime"]) == pytest.approx(float(other["d_prime"]), rel=1e-3)
