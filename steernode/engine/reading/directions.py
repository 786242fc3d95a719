"""Directions: what a contrast set says about each layer. A direction is stored as a unit vector beside its norm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from steernode import __version__
from steernode.canonical import format_measure
from steernode.engine.access.batches import Progress
from steernode.engine.access.encoding import EncodedConversation
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.templates import Argument
from steernode.engine.reading.capture import (
    CapturedPairs,
    CaptureSpec,
    EncodedPair,
    capture_encoded,
    capture_pairs,
    capture_spec,
)
from steernode.engine.reading.methods import check_method, find_direction, mean_difference
from steernode.engine.reading.spool import ActivationSpool
from steernode.engine.reading.triggers import ReadPosition
from steernode.engine.reading.window import CaptureStats
from steernode.errors import ContrastSetError, EngineError
from steernode.files.contrast import ContrastPair
from steernode.files.vectors import SCHEMA, TEMPLATE_ARGUMENTS, VectorFile, write_vector
from steernode.words import METHODS

__all__ = [
    "LayerDirection",
    "extract_directions",
    "extract_encoded",
    "extract_methods",
    "mean_difference",
    "read_direction",
    "write_direction",
]


@dataclass(frozen=True, eq=False)
class LayerDirection:
    """A direction at one layer. `direction` is (d_model,) float32 of length 1, on the CPU.

    `norm` is how far the average pair lies apart along the direction, mean(d)·v for d = positive - negative: 1 in the unit
    `mean_difference`, whatever the method. For the method `mean_difference` that is the length before normalisation.
    `mean_residual_norm` is the mean length of the states where they were read (1 in the unit `residual`). Both are in
    activation units of the site.
    """

    layer: int
    site: str
    direction: Tensor
    norm: float
    mean_residual_norm: float
    pairs: int
    method: str = "mean_difference"
    read_position: str = "last_prompt_token"
    # What the chat template was given beside the messages.
    template_arguments: Mapping[str, Argument] = field(default_factory=dict)


@dataclass(eq=False)
class _StreamedMeans:
    """Sums in float64, so that memory does not grow with the pairs and the order of batches does not show."""

    difference: Tensor
    residual_norm: Tensor
    pairs: int = field(default=0)

    def add(self, captured: CapturedPairs) -> None:
        # Layer by layer, because a float64 copy of a whole window would be the largest thing in memory.
        for layer in range(len(self.difference)):
            positive, negative = captured.positive[:, layer].double(), captured.negative[:, layer].double()
            self.difference[layer] += (positive - negative).sum(dim=0)
            self.residual_norm[layer] += (positive.norm(dim=-1) + negative.norm(dim=-1)).sum() / 2
        self.pairs += len(captured.positive)


def extract_directions(
    loaded: LoadedModel,
    pairs: Iterable[ContrastPair],
    *,
    method: str = "mean_difference",
    read_position: ReadPosition = "last_prompt_token",
    site: str = "resid_post",
    layers: Sequence[int] | None = None,
    max_batch_tokens: int | None = None,
    on_progress: Progress | None = None,
    stats: CaptureStats | None = None,
) -> tuple[LayerDirection, ...]:
    """The direction at each wanted layer, from one pass over the pairs, which may be a stream. `on_progress(done, total)` counts pairs.

    `layers` None means the candidate layers, those that the default gates do not refuse for their depth. A layer that sees no
    difference between the sides is left out: below the reach of a sliding window, say, where the sides differ further back.

    Raises: EngineError METHOD_UNKNOWN, NON_FINITE, ZERO_DIRECTION (at no layer do the sides differ where they are read), SPOOL_FULL,
    TRIGGER_EMPTY, PROBE_NOT_CONVERGED; ContrastSetError CONTRAST_EMPTY, PAIRS_TOO_FEW; the codes of `capture_pairs` and
    `capture_spec`.
    """
    return extract_methods(
        loaded, pairs, (method,), read_position=read_position, site=site, layers=layers,
        max_batch_tokens=max_batch_tokens, on_progress=on_progress, stats=stats,
    )[method]  # fmt: skip


def extract_methods(
    loaded: LoadedModel,
    pairs: Iterable[ContrastPair],
    methods: Sequence[str] = METHODS,
    *,
    read_position: ReadPosition = "last_prompt_token",
    site: str = "resid_post",
    layers: Sequence[int] | None = None,
    max_batch_tokens: int | None = None,
    on_progress: Progress | None = None,
    stats: CaptureStats | None = None,
) -> dict[str, tuple[LayerDirection, ...]]:
    """Several methods from the same pass over the pairs, by name. Raises as `extract_directions`."""
    spec = capture_spec(loaded, layers=layers, site=site, read_position=read_position)

    def capture(asked: Iterable[ContrastPair]) -> Iterator[CapturedPairs]:
        return capture_pairs(loaded, asked, spec, max_batch_tokens=max_batch_tokens, on_progress=on_progress, stats=stats)

    return _extract(loaded, pairs, methods, spec, capture)


def extract_encoded(
    loaded: LoadedModel,
    pairs: Iterable[tuple[EncodedConversation, EncodedConversation]],
    *,
    method: str = "mean_difference",
    read_position: ReadPosition = "last_prompt_token",
    site: str = "resid_post",
    layers: Sequence[int] | None = None,
    max_batch_tokens: int | None = None,
    on_progress: Progress | None = None,
    stats: CaptureStats | None = None,
) -> tuple[LayerDirection, ...]:
    """`extract_directions` of (positive, negative) pairs that are token ids already, for example from `encode_texts`.

    Errors name a pair by its number, from 0.
    """
    spec = capture_spec(loaded, layers=layers, site=site, read_position=read_position)
    numbered: Iterable[EncodedPair] = (EncodedPair(str(number), *pair) for number, pair in enumerate(pairs))
    if isinstance(pairs, Sized):
        numbered = list(numbered)

    def capture(asked: Iterable[EncodedPair]) -> Iterator[CapturedPairs]:
        return capture_encoded(loaded, asked, spec, max_batch_tokens=max_batch_tokens, on_progress=on_progress, stats=stats)

    return _extract(loaded, numbered, (method,), spec, capture)[method]


def _extract(
    loaded: LoadedModel, pairs: Iterable[Any], methods: Sequence[str], spec: CaptureSpec, capture: Callable[[Any], Iterator[CapturedPairs]]
) -> dict[str, tuple[LayerDirection, ...]]:
    expected = len(pairs) if isinstance(pairs, Sized) else None
    for method in methods:
        check_method(method)
    if expected is None:
        iterator = iter(pairs)
        pairs = chain(first, iterator) if (first := list(_take_one(iterator))) else ()
    if expected == 0 or pairs == ():
        raise ContrastSetError("CONTRAST_EMPTY", "there are no pairs to read a direction from")
    for method in methods:
        check_method(method, expected)
    means = _StreamedMeans(
        torch.zeros(len(spec.layers), loaded.d_model, dtype=torch.float64), torch.zeros(len(spec.layers), dtype=torch.float64)
    )
    with ExitStack() as stack:
        # Only the mean can be had from sums; the other methods look at every pair again, layer by layer.
        spool = None
        if set(methods) != {"mean_difference"}:
            spool = stack.enter_context(ActivationSpool(spec.layers, loaded.d_model, expected))
        for captured in capture(pairs):
            means.add(captured)
            if spool is not None:
                spool.append(captured.positive, captured.negative)
        found: dict[str, list[LayerDirection]] = {method: [] for method in methods}
        left_out: dict[str, EngineError] = {}
        for place, layer in enumerate(spec.layers):
            difference = means.difference[place] / means.pairs
            residual_norm = float(means.residual_norm[place]) / means.pairs
            sides = None if spool is None else spool.layer(layer)
            for method in methods:
                check_method(method, means.pairs)
                try:
                    _refuse_zero(difference, residual_norm, layer, spec.site)
                    if method == "mean_difference" or sides is None:
                        unit = (difference / difference.norm()).float()
                    else:
                        unit = find_direction(method, *sides)
                except EngineError as error:
                    if error.code != "ZERO_DIRECTION":
                        raise
                    left_out.setdefault(method, error)
                    continue
                norm = float(difference @ unit.double())
                found[method].append(
                    LayerDirection(
                        layer, spec.site, unit, norm, residual_norm, means.pairs, method, str(spec.read_position), loaded.template_arguments
                    )
                )
    for method, directions in found.items():
        if not directions:
            raise left_out[method]
    return {method: tuple(directions) for method, directions in found.items()}


def _take_one(iterator: Iterator[Any]) -> Iterator[Any]:
    for item in iterator:
        yield item
        return


def _refuse_zero(difference: Tensor, mean_residual_norm: float, layer: int, site: str) -> None:
    # Relative to the stream it was read from: float32 noise of two identical prompts is not a direction.
    if float(difference.norm()) <= 1e-6 * mean_residual_norm:
        raise EngineError(
            "ZERO_DIRECTION",
            f"at layer {layer} ({site}) both sides look the same at the read position; leave the layer out or read other positions",
            f"layer {layer}",
        )


def write_direction(
    direction: LayerDirection,
    *,
    base_model_fingerprint: str,
    contrast_set_digest: str,
    architecture_digest: str = "",
    method: str | None = None,
    read_position: str | None = None,
    seed: int = 0,
    dtype: str = "F32",
    ran_on: Mapping[str, str] | None = None,
) -> bytes:
    """The vector file of a direction, with its lineage, which names the architecture it was read by and what it ran on, if that is given.

    `method` and `read_position` are the direction's own; a caller that was promised others says so, and is refused.

    Raises: VectorFileError; EngineError LINEAGE_MISMATCH.
    """
    for name, asked in (("method", method), ("read_position", read_position)):
        if asked is not None and asked != getattr(direction, name):
            raise EngineError("LINEAGE_MISMATCH", f"the direction was made with {name} {getattr(direction, name)!r}, not {asked!r}", name)
    lineage = {
        "schema": SCHEMA,
        "base_model_fingerprint": base_model_fingerprint,
        "layer": direction.layer,
        "site": direction.site,
        "method": direction.method,
        "read_position": direction.read_position,
        "contrast_set_digest": contrast_set_digest,
        "norm": format_measure(direction.norm),
        "mean_residual_norm": format_measure(direction.mean_residual_norm),
        "engine_version": __version__,
        "seed": seed,
        "pairs": direction.pairs,
        **({TEMPLATE_ARGUMENTS: dict(direction.template_arguments)} if direction.template_arguments else {}),
    }
    if architecture_digest:
        lineage["architecture_digest"] = architecture_digest
    lineage.update(ran_on or {})
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
        method=lineage["method"],
        read_position=lineage["read_position"],
        template_arguments=vector.template_arguments,
    )
