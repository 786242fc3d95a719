"""Controls: what should do nothing is measured like what should do something."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from steernode.canonical import canonical_json
from steernode.engine.applying.components import Component
from steernode.engine.judging.controls import Controls, measure_controls, random_unit_directions, shuffle_labels
from steernode.engine.judging.unrelated import unrelated_axes, unrelated_directions
from steernode.engine.measuring.margins import MarginItem, margin_items, measure_margins
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.errors import EngineError
from tests.support.planted_models import Planted, plant, write_pairs

PAIRS = write_pairs(16)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), 1)


@pytest.fixture(scope="module")
def direction(planted: Planted) -> LayerDirection:
    return extract_directions(planted.loaded, PAIRS, layers=[planted.layer])[0]


@pytest.fixture(scope="module")
def items(planted: Planted) -> tuple[MarginItem, ...]:
    return margin_items(planted.loaded, PAIRS, max_new_tokens=5)


@pytest.fixture(scope="module")
def controls(planted: Planted, direction: LayerDirection, items: tuple[MarginItem, ...]) -> Controls:
    shuffled = shuffle_labels(planted.loaded, PAIRS, direction)
    component = Component(direction.direction, direction.layer, 0.5 * direction.norm)
    unrelated = unrelated_directions(planted.loaded, direction)
    return measure_controls(planted.loaded, component, "0.5", items, PAIRS, shuffled, unrelated, direction.norm)


def test_the_planted_effect_stands_above_the_random_directions(controls: Controls) -> None:
    assert controls.slope_over_random.low > 0
    assert len(controls.random) == 40
    assert controls.threshold == pytest.approx(np.sort(controls.random.mean(axis=1))[38])


def test_what_unrelated_contrasts_do_counts_whichever_way_round_they_lie(
    planted: Planted, direction: LayerDirection, items: tuple[MarginItem, ...], controls: Controls
) -> None:
    sizes = np.sort(np.abs(controls.unrelated.mean(axis=1)))
    assert len(sizes) == 40
    assert controls.unrelated_threshold == replace(controls, unrelated=-controls.unrelated).unrelated_threshold == sizes[38]
    assert controls.slope_over_unrelated.value == pytest.approx(controls.effect.mean() - sizes[38])
    component = Component(direction.direction, direction.layer, 0.5 * direction.norm)

    def beside(*others: Tensor) -> Controls:
        return measure_controls(planted.loaded, component, "0.5", items, PAIRS, [], others, direction.norm)

    empty = random_unit_directions(planted.loaded.d_model, 4)
    assert beside(*empty).slope_over_unrelated.low > 0
    # What a contrast of something else does just as well is not what the candidate is about.
    assert beside(*empty, direction.direction).slope_over_unrelated.high <= 0.1 * controls.effect.mean()
    assert "slope_over_unrelated" not in beside().metrics()


def test_unrelated_directions_are_read_where_the_candidate_was(planted: Planted, direction: LayerDirection) -> None:
    found = unrelated_directions(planted.loaded, direction)
    assert len(found) == len(unrelated_axes()) == 40
    assert torch.stack(found).norm(dim=1).numpy() == pytest.approx(np.ones(40), rel=1e-5)
    [again] = extract_directions(planted.loaded, unrelated_axes()["season"], layers=[direction.layer])
    assert torch.equal(found[0], again.direction)


def test_unrelated_directions_are_read_by_the_candidate_s_own_method(planted: Planted) -> None:
    [like] = extract_directions(planted.loaded, PAIRS, method="logistic_probe", layers=[planted.layer])
    [again] = extract_directions(planted.loaded, unrelated_axes()["season"], method="logistic_probe", layers=[planted.layer])
    assert torch.equal(unrelated_directions(planted.loaded, like)[0], again.direction)


def test_every_unrelated_axis_is_asked_alike_both_ways() -> None:
    for name, pairs in unrelated_axes().items():
        assert len(pairs) == 8
        for pair in pairs:
            [positive], [negative] = pair.positive, pair.negative
            assert positive != negative, name
            assert positive.content.split(". ", 1)[1] == negative.content.split(". ", 1)[1]
            assert abs(len(positive.content.split()) - len(negative.content.split())) <= 2, name


def test_the_effect_is_the_shift_of_the_margin_per_alpha(
    planted: Planted, direction: LayerDirection, items: tuple[MarginItem, ...], controls: Controls
) -> None:
    component = Component(direction.direction, direction.layer, 0.5 * direction.norm)
    own, steered, negated = measure_margins(
        planted.loaded, items, [[], [component], [replace(component, coefficient=-component.coefficient)]]
    )
    assert controls.effect == pytest.approx((steered - own) / 0.5, rel=1e-4)
    assert controls.negated == pytest.approx((negated - own) / 0.5, rel=1e-4)


def test_the_positive_side_s_prompt_alone_moves_the_margin(controls: Controls) -> None:
    assert controls.prompt_only is not None
    assert (controls.prompt_only > 0).all()


def test_little_is_left_of_a_direction_when_half_of_the_labels_are_swapped(controls: Controls) -> None:
    assert len(controls.shuffled) == len(controls.shuffled_norms) == 3
    assert max(controls.shuffled_norms) < 0.2


def test_the_document_is_canonical_and_repeats(controls: Controls) -> None:
    assert canonical_json(controls.to_document()) == canonical_json(controls.to_document())


def test_random_directions_are_unit_vectors_in_all_directions_and_repeat() -> None:
    drawn = torch.stack(random_unit_directions(64, 400, seed=5))
    assert drawn.norm(dim=1).numpy() == pytest.approx(np.ones(400), rel=1e-5)
    assert float(drawn.mean(dim=0).norm()) < 0.1
    assert torch.equal(drawn, torch.stack(random_unit_directions(64, 400, seed=5)))


def test_a_direction_of_which_shuffling_leaves_nothing_is_left_out(planted: Planted, direction: LayerDirection) -> None:
    twice = [replace(PAIRS[0], id="one"), replace(PAIRS[0], id="two")]
    assert shuffle_labels(planted.loaded, twice, direction) == []


@pytest.mark.parametrize(
    ("change", "code"), [({"random_directions": 19}, "CONTROLS_TOO_FEW"), ({"alpha": "0"}, "ALPHA_ZERO"), ({"items": ()}, "MARGIN_EMPTY")]
)
def test_controls_that_would_say_nothing_are_refused(
    planted: Planted, direction: LayerDirection, items: tuple, change: dict, code: str
) -> None:
    component = Component(direction.direction, direction.layer, 1.0)
    arguments = {"alpha": "0.5", "items": items, "pairs": PAIRS, "shuffled": [], "unrelated": [], "norm": 1.0, **change}
    with pytest.raises(EngineError) as refused:
        measure_controls(planted.loaded, component, **arguments)
    assert refused.value.code == code


def test_one_pair_has_no_labels_to_shuffle(planted: Planted, direction: LayerDirection) -> None:
    with pytest.raises(EngineError) as refused:
        shuffle_labels(planted.loaded, PAIRS[:1], direction)
    assert refused.value.code == "NOTHING_MEASURED"
