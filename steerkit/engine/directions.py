"""Directions: what a contrast set says about each layer. A direction is stored as a unit vector beside its norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from steerkit import __version__
from steerkit.canonical import format_measure
from steerkit.contrast import ContrastPair
from steerkit.engine.capture import MAX_BATCH_TOKENS, Progress, capture_pairs, capture_spec
from steerkit.engine.models import LoadedModel
from steerkit.errors import ContrastSetError, EngineError
from steerkit.vectorfile import SCHEMA, VectorFile, write_vector

METHODS = ("mean_difference",)


@dataclass(frozen=True, eq=False)
class LayerDirection:
    """A direction at one layer. `direction` is (d_model,) float32 of length 1, on the CPU.

    `norm` is the length before normalisation (1 in the unit `mean_difference`), `mean_residual_norm` the mean length of the
    residual stream where it was read (1 in the unit `residual`); both in activation units of the site.
    """

    layer: int
    site: str
    direction: Tensor
    norm: float
    mean_residual_norm: float
    pairs: int


def mean_difference(positive: Tensor, negative: Tensor) -> Tensor:
    """Direction from negative to positive: the mean over pairs of (positive - negative).

    Shapes: both (pairs, d_model), row i of each from the same pair; returns (d_model,).
    Units:  activation units of the capture site, so strength 1.0 means "one average difference".
    Dtype:  accumulates in float64 and returns float32, on the device of `positive`.
    Raises: ContrastSetError if the shapes differ or there are no pairs; EngineError NON_FINITE.
    Source: contrastive activation addition, arXiv:2312.06681.
    """
    if positive.shape != negative.shape or positive.ndim != 2 or len(positive) == 0:
        raise ContrastSetError(
            "CONTRAST_SHAPE", f"want two equal (pairs, d_model), got {tuple(positive.shape)} and {tuple(negative.shape)}"
        )
    direction = (positive.double() - negative.double()).mean(dim=0)
    if not torch.isfinite(direction).all():
        raise EngineError("NON_FINITE", "a captured activation is not finite")
    return direction.float()


@dataclass(eq=False)
class _StreamedMeans:
    """Sums in float64, so that memory does not grow with the pairs and the order of batches does not show."""

    difference: Tensor
    residual_norm: Tensor
    pairs: int = field(default=0)

    def add(self, positive: Tensor, negative: Tensor) -> None:
        """Both (pairs, layers, d_model)."""
        self.difference += (positive.double() - negative.double()).sum(dim=0).cpu()
        self.residual_norm += (positive.double().norm(dim=-1) + negative.double().norm(dim=-1)).sum(dim=0).cpu() / 2
        self.pairs += len(positive)


def extract_directions(
    loaded: LoadedModel,
    pairs: Sequence[ContrastPair],
    *,
    method: str = "mean_difference",
    read_position: str = "last_prompt_token",
    site: str = "resid_post",
    layers: Sequence[int] | None = None,
    max_batch_tokens: int = MAX_BATCH_TOKENS,
    on_progress: Progress | None = None,
) -> tuple[LayerDirection, ...]:
    """The mean difference at every layer, from one pass over the pairs. `on_progress(done, total)` counts pairs.

    Raises: EngineError METHOD_UNKNOWN, NON_FINITE, ZERO_DIRECTION (the sides do not differ where they are read),
    ContrastSetError CONTRAST_EMPTY, and the codes of encoding and `capture_spec`.
    """
    if method not in METHODS:
        raise EngineError("METHOD_UNKNOWN", f"method {method!r} is not known; known are {', '.join(METHODS)}", method)
    if not pairs:
        raise ContrastSetError("CONTRAST_EMPTY", "there are no pairs to read a direction from")
    spec = capture_spec(loaded, layers=layers, site=site, read_position=read_position)
    shape = (len(spec.layers), loaded.d_model)
    means = _StreamedMeans(torch.zeros(shape, dtype=torch.float64), torch.zeros(shape[0], dtype=torch.float64))
    for positive, negative in capture_pairs(loaded, pairs, spec, max_batch_tokens=max_batch_tokens, on_progress=on_progress):
        means.add(positive, negative)
    return tuple(
        _layer_direction(layer, site, means.difference[index] / means.pairs, float(means.residual_norm[index]) / means.pairs, means.pairs)
        for index, layer in enumerate(spec.layers)
    )


def _layer_direction(layer: int, site: str, difference: Tensor, mean_residual_norm: float, pairs: int) -> LayerDirection:
    norm = float(difference.norm())
    # Relative to the stream it was read from: float32 noise of two identical prompts is not a direction.
    if norm <= 1e-6 * mean_residual_norm:
        raise EngineError(
            "ZERO_DIRECTION",
            f"at layer {layer} ({site}) both sides look the same at the read position; leave the layer out or read other positions",
            f"layer {layer}",
        )
    return LayerDirection(layer, site, (difference / norm).float(), norm, mean_residual_norm, pairs)


def write_direction(
    direction: LayerDirection,
    *,
    base_model_fingerprint: str,
    contrast_set_digest: str,
    method: str = "mean_difference",
    read_position: str = "last_prompt_token",
    seed: int = 0,
    dtype: str = "F32",
) -> bytes:
    """The vector file of a direction, with its lineage. Raises: VectorFileError."""
    lineage = {
        "schema": SCHEMA,
        "base_model_fingerprint": base_model_fingerprint,
        "layer": direction.layer,
        "site": direction.site,
        "method": method,
        "read_position": read_position,
        "contrast_set_digest": contrast_set_digest,
        "norm": format_measure(direction.norm),
        "mean_residual_norm": format_measure(direction.mean_residual_norm),
        "engine_version": __version__,
        "seed": seed,
        "pairs": direction.pairs,
    }
    return write_vector(direction.direction.numpy(), lineage, dtype)


def read_direction(vector: VectorFile) -> LayerDirection:
    """The direction in a vector file, as it was when it was written."""
    lineage = vector.lineage
    return LayerDirection(
        layer=lineage["layer"],
        site=lineage["site"],
        # The file's array is read-only, which torch tensors cannot be.
        direction=torch.from_numpy(vector.direction.copy()),
        norm=float(lineage["norm"]),
        mean_residual_norm=float(lineage["mean_residual_norm"]),
        pairs=lineage["pairs"],
    )
