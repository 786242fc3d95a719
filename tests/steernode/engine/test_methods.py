"""Methods: planted directions are found, signs point to the positive side, and bad input is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf

from steernode.engine.access.models import LoadedModel
from steernode.engine.reading import methods as methods_module
from steernode.engine.reading.directions import extract_directions, extract_methods, read_direction, write_direction
from steernode.engine.reading.methods import check_method, find_direction, logistic_probe, pca_uncentred, whitened_difference
from steernode.errors import ContrastSetError, EngineError, SteerError
from steernode.files.vectors import read_vector
from steernode.words import METHODS
from tests.support.tiny_models import make_pairs

D_MODEL = 24


def plant(pairs: int = 400, seed: int = 0, strength: float = 2.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A concept along one direction, by a different amount in each pair, under noise of unit variance that both sides have."""
    generator = torch.Generator().manual_seed(seed)
    concept = torch.nn.functional.normalize(torch.randn(D_MODEL, generator=generator), dim=0)
    base = 3 * torch.randn(pairs, 1, generator=generator).expand(-1, D_MODEL) * torch.linspace(0, 1, D_MODEL)
    amount = strength * (1 + 0.3 * torch.randn(pairs, 1, generator=generator))
    noise = 0.5 * torch.randn(2, pairs, D_MODEL, generator=generator)
    return base + amount * concept + noise[0], base - amount * concept + noise[1], concept


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((torch.zeros(5, 3), torch.zeros(4, 3)), "CONTRAST_SHAPE"),
        ((torch.zeros(0, 3), torch.zeros(0, 3)), "CONTRAST_SHAPE"),
        ((torch.zeros(5), torch.zeros(5)), "CONTRAST_SHAPE"),
        ((torch.full((5, 3), float("nan")), torch.ones(5, 3)), "NON_FINITE"),
        ((torch.full((5, 3), float("inf")), torch.ones(5, 3)), "NON_FINITE"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_refuses_what_it_cannot_read(method: str, arguments: tuple[torch.Tensor, torch.Tensor], code: str) -> None:
    with pytest.raises(SteerError) as refused:
        find_direction(method, *arguments)
    assert refused.value.code == code


def test_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(EngineError, match="pca_centred") as refused:
        check_method("pca_centred")
    assert (refused.value.code, refused.value.item) == ("METHOD_UNKNOWN", "pca_centred")


@pytest.mark.parametrize("method", ["pca_uncentred", "logistic_probe", "whitened_difference"])
def test_too_few_pairs_are_refused(method: str, llama: LoadedModel) -> None:
    with pytest.raises(ContrastSetError) as refused:
        find_direction(method, torch.ones(1, 3), torch.zeros(1, 3))
    assert refused.value.code == "PAIRS_TOO_FEW"
    with pytest.raises(ContrastSetError) as refused:
        extract_directions(llama, iter(make_pairs(1)), method=method)
    assert refused.value.code == "PAIRS_TOO_FEW"


@pytest.mark.parametrize(("positive", "negative", "missing"), [(0, 5, "positive"), (5, 0, "negative")])
def test_a_probe_with_one_class_is_refused(positive: int, negative: int, missing: str) -> None:
    with pytest.raises(EngineError) as refused:
        logistic_probe(torch.ones(positive, 3), torch.zeros(negative, 3))
    assert (refused.value.code, refused.value.item) == ("PROBE_ONE_CLASS", missing)


@pytest.mark.parametrize("method", METHODS)
def test_sides_that_do_not_lean_have_no_direction(method: str) -> None:
    side = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    with pytest.raises(EngineError) as refused:
        find_direction(method, side, side)
    assert refused.value.code == "ZERO_DIRECTION"


def test_a_probe_that_does_not_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn import linear_model

    real = linear_model.LogisticRegression
    monkeypatch.setattr(linear_model, "LogisticRegression", lambda **options: real(**options | {"max_iter": 1}))
    positive, negative, _ = plant()
    with pytest.raises(EngineError) as refused:
        logistic_probe(positive, negative)
    assert refused.value.code == "PROBE_NOT_CONVERGED"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("method", METHODS)
def test_a_planted_direction_is_found(method: str, seed: int) -> None:
    positive, negative, concept = plant(seed=seed)
    found = find_direction(method, positive, negative)
    assert found.norm().item() == pytest.approx(1, abs=1e-6)
    assert found.dtype == torch.float32
    # A probe and a whitened difference bend away from the shared variation: that is what they are for.
    assert float(found @ concept) >= (0.95 if method in ("mean_difference", "pca_uncentred") else 0.6)


def test_not_centring_keeps_the_concept_that_centring_throws_away() -> None:
    generator = torch.Generator().manual_seed(4)
    concept, other = torch.eye(D_MODEL)[0], torch.eye(D_MODEL)[1]
    # Every pair differs by the same concept, and by a different amount of something else.
    differences = 2 * concept + torch.randn(300, 1, generator=generator) * other
    negative = torch.randn(300, D_MODEL, generator=generator)
    centred = torch.linalg.svd(differences - differences.mean(0), full_matrices=False).Vh[0]
    assert abs(float(centred @ concept)) < 0.01
    assert float(pca_uncentred(negative + differences, negative) @ concept) > 0.99


def test_both_gram_matrices_give_the_same_first_eigenvector() -> None:
    positive, negative, _ = plant(pairs=D_MODEL - 4)
    wide = pca_uncentred(positive, negative)
    differences = (positive - negative).double()
    top = torch.linalg.eigh(differences.T @ differences).eigenvectors[:, -1].float()
    assert abs(float(wide @ top)) == pytest.approx(1, abs=1e-5)


def test_whitening_is_the_inverse_of_the_shrunk_covariance_within_the_sides() -> None:
    positive, negative, _ = plant(pairs=60)
    within = torch.cat([positive - positive.mean(0), negative - negative.mean(0)]).double().numpy()
    expected = np.linalg.inv(ledoit_wolf(within, assume_centered=True)[0]) @ (positive - negative).double().numpy().mean(0)
    np.testing.assert_allclose(whitened_difference(positive, negative).numpy(), expected / np.linalg.norm(expected), atol=1e-5)


def test_a_probe_ignores_a_dimension_that_never_changes() -> None:
    positive, negative, _ = plant(pairs=50)
    positive[:, 5] = negative[:, 5] = 7.0
    assert logistic_probe(positive, negative)[5] == 0


def test_a_probe_on_rescaled_features_is_mapped_back() -> None:
    positive, negative, _ = plant(pairs=80)
    scale = torch.logspace(-2, 2, D_MODEL)
    one = logistic_probe(positive, negative)
    other = logistic_probe(positive * scale, negative * scale) * scale
    torch.testing.assert_close(other / other.norm(), one, rtol=1e-3, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(method=st.sampled_from(METHODS), seed=st.integers(0, 2**16), pairs=st.integers(4, 40))
def test_the_mean_projection_of_the_pairs_is_positive_and_swapping_sides_turns_it_round(method: str, seed: int, pairs: int) -> None:
    positive, negative, _ = plant(pairs=pairs, seed=seed, strength=0.5)
    found = find_direction(method, positive, negative)
    assert float(((positive - negative) @ found).mean()) > 0
    torch.testing.assert_close(find_direction(method, negative, positive), -found, rtol=0, atol=2e-3)


def test_all_methods_come_from_one_pass_and_keep_the_meaning_of_the_unit(llama: LoadedModel) -> None:
    pairs = make_pairs(12)
    found = extract_methods(llama, pairs)
    assert tuple(found) == METHODS
    means = found["mean_difference"]
    for method, directions in found.items():
        assert [direction.method for direction in directions] == [method] * llama.n_layers
        for mean, direction in zip(means, directions, strict=True):
            assert direction.direction.norm().item() == pytest.approx(1, abs=1e-6)
            projected = mean.norm * float(mean.direction.double() @ direction.direction.double())
            assert direction.norm == pytest.approx(projected, rel=1e-4)
            assert 0 < direction.norm <= mean.norm * (1 + 1e-6)
            assert direction.mean_residual_norm == mean.mean_residual_norm
    again = extract_directions(llama, pairs, method="whitened_difference")
    assert all(torch.equal(one.direction, two.direction) for one, two in zip(again, found["whitened_difference"], strict=True))


def test_lineage_carries_the_method_and_refuses_another(llama: LoadedModel) -> None:
    found = extract_directions(llama, make_pairs(6), method="pca_uncentred", read_position="all")[1]
    data = write_direction(found, base_model_fingerprint=llama.fingerprint, contrast_set_digest="a" * 64, method="pca_uncentred")
    back = read_direction(read_vector(data, d_model=llama.d_model))
    assert (back.method, back.read_position) == ("pca_uncentred", "all")
    with pytest.raises(EngineError) as refused:
        write_direction(found, base_model_fingerprint=llama.fingerprint, contrast_set_digest="a" * 64, method="mean_difference")
    assert refused.value.code == "LINEAGE_MISMATCH"


def test_the_list_of_methods_is_the_one_of_the_functions() -> None:
    assert all(callable(getattr(methods_module, method)) for method in METHODS)
