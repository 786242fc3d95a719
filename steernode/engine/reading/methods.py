"""Methods: how a direction is made from the states of contrast pairs at one layer. Pure functions; each returns a unit vector.

All take `positive` and `negative` (pairs, d_model), row i of both from the same pair, compute in float64 and return
(d_model,) float32 of length 1 on the CPU. Write d for positive - negative, row by row.

The sign rule is one for all: the mean of d·v over the pairs is positive, so that adding v moves towards the positive side.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steernode.errors import ContrastSetError, EngineError
from steernode.words import METHODS

Floats = NDArray[np.float64]

# Below this a method has less to go on than it has to decide; 500 pairs are what the diagnostics recommend.
MIN_PAIRS = {"mean_difference": 1, "pca_uncentred": 2, "logistic_probe": 4, "whitened_difference": 4}
# With these a method says that there is nothing to find: the sides do not differ, or vary too little for it.
NO_DIRECTION = ("ZERO_DIRECTION", "COVARIANCE_SINGULAR", "PROBE_NOT_CONVERGED")
# Of the length of the states: float32 noise of two identical prompts is not a direction.
_NOISE = 1e-6


def mean_difference(positive: Tensor, negative: Tensor) -> Tensor:
    """The mean over pairs of (positive - negative): the direction from negative to positive, in its own length.

    Formula: mean(d). Not normalised, unlike the other methods: its length is what the unit `mean_difference` counts in.
    When:    the default. One number per dimension from all pairs, nothing to tune, best or equal best for steering.
    Shapes:  both (pairs, d_model), row i of each from the same pair; returns (d_model,).
    Units:   activation units of the capture site, so strength 1.0 means "one average difference".
    Dtype:   accumulates in float64 and returns float32, on the device of `positive`.
    Raises:  ContrastSetError CONTRAST_SHAPE if the shapes differ or there are no pairs; EngineError NON_FINITE.
    Source:  contrastive activation addition, arXiv:2312.06681.
    """
    _check_shapes(positive, negative)
    direction = (positive.double() - negative.double()).mean(dim=0)
    if not torch.isfinite(direction).all():
        raise EngineError("NON_FINITE", "a captured activation is not finite")
    return direction.float()


def pca_uncentred(positive: Tensor, negative: Tensor) -> Tensor:
    """The direction along which the differences are longest.

    Formula: the eigenvector of E[d dᵀ] with the largest eigenvalue.
    When:    pairs agree on an axis but differ in how far they go. Not centred: centring would remove the mean of d, which is
             the concept itself, and leave what pairs disagree on.
    Source:  representation engineering, arXiv:2310.01405, without its centring; steering-vectors has the same.
    """
    differences = _differences(positive, negative, "pca_uncentred")
    if len(differences) < differences.shape[1]:
        # The smaller of the two Gram matrices has the same eigenvalues.
        return _orient(differences.T @ _top_eigenvector(differences @ differences.T), differences, positive)
    return _orient(_top_eigenvector(differences.T @ differences), differences, positive)


def _top_eigenvector(gram: Floats) -> Floats:
    import scipy.linalg

    last = len(gram) - 1
    vectors: Floats = scipy.linalg.eigh(gram, subset_by_index=(last, last))[1]
    return vectors[:, 0]


def logistic_probe(positive: Tensor, negative: Tensor) -> Tensor:
    """The normal of the plane that best tells the two sides apart.

    Formula: the weights w of a logistic regression on features with mean 0 and variance 1 (L2, C = 1), divided by the
             features' standard deviations, which maps them back to activation units.
    When:    for detection (conditions, monitors). It weighs dimensions by how well they tell, not by how far the model moves
             along them, so it often steers more weakly than `mean_difference`.
    Raises:  EngineError PROBE_ONE_CLASS if a side is empty, PROBE_NOT_CONVERGED.
    Source:  inference-time intervention, arXiv:2306.03341; scikit-learn's LogisticRegression.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if (len(positive) == 0) != (len(negative) == 0):
        side = "positive" if len(positive) == 0 else "negative"
        raise EngineError("PROBE_ONE_CLASS", f"a probe needs both classes; there is no {side} example", side)
    differences = _differences(positive, negative, "logistic_probe")
    states = np.concatenate([positive.double().cpu().numpy(), negative.double().cpu().numpy()])
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    scale = states.std(axis=0)
    # A dimension that never changes tells nothing; it keeps the weight 0 that its zero column earns it.
    scale[scale <= _NOISE * np.abs(states).max()] = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            probe = LogisticRegression(C=1.0, max_iter=2000).fit((states - states.mean(axis=0)) / scale, labels)
        except ConvergenceWarning as error:
            raise EngineError("PROBE_NOT_CONVERGED", "the logistic probe did not converge in 2000 steps; use more pairs") from error
    return _orient(probe.coef_[0] / scale, differences, positive)


def whitened_difference(positive: Tensor, negative: Tensor) -> Tensor:
    """The mean difference, seen through the variation that both sides have anyway.

    Formula: S⁻¹ (μ₊ - μ₋), S the covariance within the sides, shrunk towards a multiple of the identity as Ledoit and Wolf do.
    When:    for conditions and monitors: the most telling linear direction if both sides vary alike. Not for addition,
             because it avoids exactly the dimensions in which states vary.
    Source:  Fisher's linear discriminant; shrinkage of Ledoit and Wolf (2004), scikit-learn's `ledoit_wolf`.
    """
    from sklearn.covariance import ledoit_wolf

    differences = _differences(positive, negative, "whitened_difference")
    sides = [side.double().cpu().numpy() for side in (positive, negative)]
    within = np.concatenate([side - side.mean(axis=0) for side in sides])
    covariance, _shrinkage = ledoit_wolf(within, assume_centered=True)
    try:
        solved = np.linalg.solve(covariance, differences.mean(axis=0))
    except np.linalg.LinAlgError as error:
        raise EngineError("COVARIANCE_SINGULAR", "the states of neither side vary, so there is nothing to whiten by") from error
    return _orient(solved, differences, positive)


def find_direction(method: str, positive: Tensor, negative: Tensor) -> Tensor:
    """The unit direction of a method by its name. Raises: EngineError METHOD_UNKNOWN, ZERO_DIRECTION, and the method's codes."""
    check_method(method)
    if method == "mean_difference":
        direction = mean_difference(positive, negative).cpu()
        return _orient(direction.double().numpy(), _differences(positive, negative, method), positive)
    named: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "pca_uncentred": pca_uncentred,
        "logistic_probe": logistic_probe,
        "whitened_difference": whitened_difference,
    }
    return named[method](positive, negative)


def check_method(method: str, pairs: int | None = None) -> None:
    """Raises: EngineError METHOD_UNKNOWN; ContrastSetError PAIRS_TOO_FEW if `pairs` are fewer than the method needs."""
    if method not in METHODS:
        raise EngineError("METHOD_UNKNOWN", f"method {method!r} is not known; known are {', '.join(METHODS)}", method)
    if pairs is not None and pairs < MIN_PAIRS[method]:
        raise ContrastSetError("PAIRS_TOO_FEW", f"{method} needs at least {MIN_PAIRS[method]} pairs, got {pairs}", str(pairs))


def _check_shapes(positive: Tensor, negative: Tensor) -> None:
    if positive.shape != negative.shape or positive.ndim != 2 or len(positive) == 0:
        raise ContrastSetError(
            "CONTRAST_SHAPE", f"want two equal (pairs, d_model), got {tuple(positive.shape)} and {tuple(negative.shape)}"
        )


def _differences(positive: Tensor, negative: Tensor, method: str) -> Floats:
    _check_shapes(positive, negative)
    check_method(method, len(positive))
    differences = (positive.double() - negative.double()).cpu().numpy()
    if not np.isfinite(differences).all():
        raise EngineError("NON_FINITE", "a captured activation is not finite")
    return np.asarray(differences, dtype=np.float64)


def _orient(direction: Floats, differences: Floats, states: Tensor) -> Tensor:
    """Unit length, and the sign rule. Raises: EngineError ZERO_DIRECTION if the pairs do not lean to one side."""
    length = float(np.linalg.norm(direction))
    unit = direction / length if length > 0 else direction
    lean = float((differences @ unit).mean())
    if not abs(lean) > _NOISE * float(states.double().norm(dim=1).mean()):
        raise EngineError("ZERO_DIRECTION", "the pairs lean to neither side of the direction, so its sign would be made up")
    return torch.from_numpy(unit * np.sign(lean)).float()
