"""Separation: how well the sides of a sample of pairs come apart in a model, per layer and per group, against shuffled labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steernode.canonical import format_measure
from steernode.engine.access.batches import Progress
from steernode.engine.access.models import LoadedModel
from steernode.engine.reading.capture import capture_pairs, capture_spec
from steernode.engine.reading.triggers import ReadPosition
from steernode.errors import ContrastSetError
from steernode.files.contrast import ContrastPair

Floats = NDArray[np.float64]

# Coin flips leave eight labels as they are once in 128 times, well inside the percentile.
MIN_SAMPLE = 8
SHUFFLES = 100
SHUFFLE_QUANTILE = 0.95
# A group of fewer pairs has no d′ worth the name.
MIN_GROUP = 8
# What two sides that never vary and are not equal get in place of infinity.
MAX_D_PRIME = 100.0


@dataclass(frozen=True)
class LayerSeparation:
    """One layer. `cosine`: mean over pairs of pairs of the cosine between their differences; `shuffled_cosine`: the same with the
    labels of the pairs flipped at random, 95th percentile of 100. `d_prime`: distance of the sides along the direction in standard
    deviations, the direction made from the other half of the pairs. `groups`: the same per locale and per product line.
    """

    layer: int
    cosine: float
    shuffled_cosine: float
    d_prime: float
    groups: dict[str, dict[str, float]]

    @property
    def is_consistent(self) -> bool:
        return self.cosine > self.shuffled_cosine

    def to_document(self) -> dict[str, Any]:
        groups = {kind: {name: format_measure(value) for name, value in values.items()} for kind, values in self.groups.items()}
        return {
            "layer": self.layer,
            "mean_cosine": format_measure(self.cosine),
            "shuffled_cosine": format_measure(self.shuffled_cosine),
            "d_prime": format_measure(self.d_prime),
            "d_prime_by": groups,
        }


@dataclass(frozen=True)
class Separation:
    """What a sample of pairs looks like at every layer that was read."""

    pairs: int
    site: str
    read_position: str
    layers: tuple[LayerSeparation, ...]

    @property
    def best_layer(self) -> LayerSeparation:
        """The layer with the largest d′ among those whose differences agree more than shuffled ones, else among all."""
        consistent = [layer for layer in self.layers if layer.is_consistent]
        return max(consistent or self.layers, key=lambda layer: (layer.d_prime, -layer.layer))

    def to_document(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "site": self.site,
            "read_position": self.read_position,
            "shuffles": SHUFFLES,
            "best_layer": self.best_layer.layer,
            "layers": [layer.to_document() for layer in self.layers],
        }


def measure_separation(
    loaded: LoadedModel,
    pairs: Sequence[ContrastPair],
    *,
    read_position: ReadPosition = "last_prompt_token",
    site: str = "resid_post",
    layers: Sequence[int] | None = None,
    on_progress: Progress | None = None,
) -> Separation:
    """Reads the pairs once and measures every layer. Holds 2 x pairs x layers x d_model float32, so pass a sample.

    Raises: ContrastSetError PAIRS_TOO_FEW below 8 pairs, and the codes of `capture_pairs`.
    """
    if len(pairs) < MIN_SAMPLE:
        raise ContrastSetError("PAIRS_TOO_FEW", f"{len(pairs)} pairs are too few to see whether they agree; {MIN_SAMPLE} are needed")
    spec = capture_spec(loaded, layers=layers, site=site, read_position=read_position)
    positive = np.empty((len(pairs), len(spec.layers), loaded.d_model), dtype=np.float32)
    negative = np.empty_like(positive)
    for captured in capture_pairs(loaded, pairs, spec, on_progress=on_progress):
        rows = slice(captured.first, captured.first + len(captured.positive))
        positive[rows], negative[rows] = captured.positive.numpy(), captured.negative.numpy()
    measured = [
        _measure_layer(layer, positive[:, place].astype(np.float64), negative[:, place].astype(np.float64), pairs)
        for place, layer in enumerate(spec.layers)
    ]
    return Separation(len(pairs), site, str(spec.read_position), tuple(measured))


def mean_pairwise_cosine(differences: Floats) -> float:
    """Mean cosine over all pairs of rows (pairs, d_model), from (|Σu|² - n) / (n(n - 1)) with u the rows at unit length.

    A row of length zero counts as a difference that agrees with none.
    """
    units = _unit_rows(differences)
    n = len(units)
    return float((np.square(units.sum(axis=0)).sum() - np.square(units).sum()) / (n * (n - 1)))


def shuffled_cosines(differences: Floats, shuffles: int = SHUFFLES, seed: int = 0) -> Floats:
    """`mean_pairwise_cosine` with the labels of each pair flipped by a coin, which turns its difference round; (shuffles,)."""
    units = _unit_rows(differences)
    n = len(units)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(shuffles, n))
    found: Floats = (np.square(signs @ units).sum(axis=1) - np.square(units).sum()) / (n * (n - 1))
    return found


def d_prime(positive: Floats, negative: Floats) -> float:
    """(mean₊ - mean₋) / √((variance₊ + variance₋) / 2) of two samples (n,); at most ±100, which stands for infinity.

    Source: Green and Swets (1966), signal detection theory.
    """
    difference = float(positive.mean() - negative.mean())
    spread = float(np.sqrt((positive.var() + negative.var()) / 2))
    if abs(difference) >= MAX_D_PRIME * spread:
        return float(np.copysign(MAX_D_PRIME, difference)) if difference else 0.0
    return difference / spread


def _measure_layer(layer: int, positive: Floats, negative: Floats, pairs: Sequence[ContrastPair]) -> LayerSeparation:
    differences = positive - negative
    # Each pair is measured along a direction that it had no part in.
    half = np.arange(len(pairs)) % 2 == 0
    projected = np.empty((2, len(pairs)))
    for part in (half, ~half):
        direction = differences[~part].mean(axis=0)
        length = np.linalg.norm(direction)
        unit = direction / length if length > 0 else direction
        projected[:, part] = positive[part] @ unit, negative[part] @ unit
    groups: dict[str, dict[str, float]] = {}
    for kind in ("locale", "product"):
        names = np.array([getattr(pair, kind) for pair in pairs])
        groups[kind] = {
            str(name): d_prime(*projected[:, names == name]) for name in sorted(set(names.tolist())) if (names == name).sum() >= MIN_GROUP
        }
    return LayerSeparation(
        layer=layer,
        cosine=mean_pairwise_cosine(differences),
        shuffled_cosine=float(np.quantile(shuffled_cosines(differences, seed=layer), SHUFFLE_QUANTILE)),
        d_prime=d_prime(*projected),
        groups=groups,
    )


def _unit_rows(differences: Floats) -> Floats:
    lengths = np.linalg.norm(differences, axis=1, keepdims=True)
    units: Floats = np.divide(differences, lengths, out=np.zeros_like(differences), where=lengths > 0)
    return units
