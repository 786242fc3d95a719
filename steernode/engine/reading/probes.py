"""Probes: logistic regressions on one layer's activations of labelled prompts, for conditions that read the prompt.

The threshold is chosen on prompts that the regression was not fitted to, and how well it does there is part of the document.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steernode import __version__
from steernode.canonical import canonical_json, format_measure, sha256_hex
from steernode.engine.access.batches import batch_by_length, halve_on_oom
from steernode.engine.access.encoding import EncodedConversation, encode_prompt
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.work import Call
from steernode.engine.reading.capture import capture_spec, read_activations
from steernode.engine.reading.roc import Calibration, calibrate
from steernode.errors import EngineError
from steernode.files.conversations import Message
from steernode.files.vectors import TEMPLATE_ARGUMENTS, write_vector
from steernode.snapshot.conditions import ProbeCondition
from steernode.words import PROBE_READ_POSITIONS

SCHEMA = "steerhub.probe/1"
MAX_BATCH_TOKENS = 4096
# Relative to the largest activation: less variation than this is rounding, not information.
_NOISE = 1e-6
# Of the regression (C): a model has more dimensions than there are labelled prompts, and the usual 1 learns those by heart. At every layer
# of a pretrained model that was tried, 0.1 ranked unseen prompts better.
STRENGTH = 0.1
Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Probe:
    """Fires on a prompt whose activation h has scale · (u · h) + bias ≥ threshold.

    `direction` u is the unit vector (d_model,) float32. `scale` is in log-odds per activation unit; `bias` and `threshold` are
    log-odds.
    """

    direction: Tensor
    layer: int
    site: str
    read_position: str
    scale: float
    bias: float
    threshold: float

    @classmethod
    def from_condition(cls, condition: ProbeCondition, direction: Tensor) -> Probe:
        numbers = (float(condition.scale), float(condition.bias), float(condition.threshold))
        return cls(direction, condition.layer, condition.site, condition.read_position, *numbers)

    def score(self, activations: Tensor) -> Tensor:
        """Log-odds (rows,) float64 of activations (rows, d_model)."""
        return self.scale * (activations.double() @ self.direction.double().to(activations.device)) + self.bias


@dataclass(frozen=True, eq=False)
class TrainedProbe:
    """A probe with what it is stored as. `vector_file` holds u (`files.vectors`); `document` everything else, numbers as decimal strings.

    `condition` is what a component or a safety override puts into a snapshot.
    """

    probe: Probe
    calibration: Calibration
    vector_file: bytes
    document: dict[str, Any]

    @property
    def condition(self) -> dict[str, Any]:
        return {"kind": "probe", **{name: self.document[name] for name in _CONDITION_FIELDS}}


_CONDITION_FIELDS = ("vector", "layer", "site", "read_position", "scale", "bias", "threshold")


def train_probe(
    loaded: LoadedModel,
    positive_prompts: Sequence[Sequence[Message]],
    negative_prompts: Sequence[Sequence[Message]],
    *,
    layer: int,
    site: str = "resid_post",
    read_position: str = "last_prompt_token",
    target_false_positive_rate: float | None = None,
    folds: int = 5,
    seed: int = 0,
) -> TrainedProbe:
    """A probe that fires on prompts like the positive ones, read at the last prompt token or as the mean over the prompt ('all').

    Formula: L2-regularised logistic regression (C = 0.1, classes weighted equally) on features of mean 0 and variance 1, mapped
             back to activation units. The threshold has the best Youden J on held-out folds or, with a target, the highest
             true-positive rate whose false-positive rate stays within it. ROC and AUC are those of the held-out folds.
    Prompts that read the same count once. The order of the prompts does not matter.

    Raises: EngineError PROBE_ONE_CLASS, PROBE_TOO_FEW, PROBE_CONTRADICTION, PROBE_CONSTANT, PROBE_TARGET, PROBE_NOT_CONVERGED,
    NON_FINITE, READ_POSITION_UNKNOWN, and the codes of `encode_prompt` and `capture_spec`.
    Source: conditional steering as in arXiv:2409.05907, with a calibrated probe in place of its cosine rule; Youden (1950).
    """
    check_read_position(read_position)
    encoded, labels = _encode_classes(loaded, positive_prompts, negative_prompts)
    states = read_prompts(loaded, encoded, layer, site, read_position)
    scores = _score_held_out(states, labels, folds, seed)
    calibration = calibrate(scores, labels, target_false_positive_rate)
    fitted = fit_probe(states, labels)
    classes = [[list(prompt.token_ids) for prompt, label in zip(encoded, labels, strict=True) if label == wanted] for wanted in (1, 0)]
    return write_probe(
        loaded,
        fitted,
        calibration,
        place=Place(layer, site, read_position),
        prompts_digest=sha256_hex(canonical_json(classes)),
        mean_residual_norm=float(np.linalg.norm(states, axis=1).mean()),
        examples=int(min(labels.sum(), (1 - labels).sum())),
        folds=_count_folds(labels, folds),
        seed=seed,
    )


@dataclass(frozen=True)
class Place:
    """Where a probe reads a prompt."""

    layer: int
    site: str
    read_position: str


def write_probe(
    loaded: LoadedModel,
    fitted: tuple[Doubles, float],
    calibration: Calibration,
    *,
    place: Place,
    prompts_digest: str,
    mean_residual_norm: float,
    examples: int,
    seed: int = 0,
    **said: Any,
) -> TrainedProbe:
    """The probe of these weights (d_model,) and bias, as it is stored. `said` stands in its document as it is.

    Raises: EngineError PROBE_CONSTANT.
    """
    weights, bias = fitted
    norm = float(np.linalg.norm(weights))
    if norm == 0:
        message = f"the prompts of both classes read the same at layer {place.layer}; choose another"
        raise EngineError("PROBE_CONSTANT", message, str(place.layer))
    direction = (weights / norm).astype(np.float32)
    # Rounded here, so that what is decided now is what the stored probe decides.
    scale, bias_text, threshold = format_measure(norm), format_measure(bias), format_measure(calibration.threshold)
    where: dict[str, Any] = {"layer": place.layer, "site": place.site, "read_position": place.read_position}
    lineage = {
        "schema": "steerhub.vector/1",
        "base_model_fingerprint": loaded.fingerprint,
        "architecture_digest": loaded.architecture_digest,
        **where,
        "method": "logistic_probe",
        "contrast_set_digest": prompts_digest,
        "norm": scale,
        "mean_residual_norm": format_measure(mean_residual_norm),
        "engine_version": __version__,
        "seed": seed,
        "pairs": examples,
        **({TEMPLATE_ARGUMENTS: dict(loaded.template_arguments)} if loaded.template_arguments else {}),
    }
    vector_file = write_vector(direction, lineage)
    document = {
        "schema": SCHEMA,
        "base_model_fingerprint": loaded.fingerprint,
        "vector": {"sha256": sha256_hex(vector_file), "bytes": len(vector_file), "dtype": "F32", "shape": [loaded.d_model]},
        **where,
        "scale": scale,
        "bias": bias_text,
        "threshold": threshold,
        "seed": seed,
        **said,
        "calibration": calibration.to_document(),
    }
    probe = Probe(torch.from_numpy(direction), **where, scale=float(scale), bias=float(bias_text), threshold=float(threshold))
    return TrainedProbe(probe, calibration, vector_file, document)


def check_read_position(read_position: str) -> None:
    if read_position not in PROBE_READ_POSITIONS:
        known = ", ".join(PROBE_READ_POSITIONS)
        raise EngineError("READ_POSITION_UNKNOWN", f"a probe cannot read {read_position!r}; it reads {known}", read_position)


def _encode_classes(
    loaded: LoadedModel, positive_prompts: Sequence[Sequence[Message]], negative_prompts: Sequence[Sequence[Message]]
) -> tuple[list[EncodedConversation], NDArray[np.int64]]:
    """Each prompt once, in an order of its own, and its label: 1 for positive."""
    for name, prompts in (("positive", positive_prompts), ("negative", negative_prompts)):
        if not prompts:
            raise EngineError("PROBE_ONE_CLASS", f"a probe needs both classes; there is no {name} prompt", name)
    label_of: dict[tuple[int, ...], int] = {}
    found: dict[tuple[int, ...], EncodedConversation] = {}
    for label, prompts in ((1, positive_prompts), (0, negative_prompts)):
        for prompt in prompts:
            encoded = encode_prompt(loaded, prompt)
            if label_of.setdefault(encoded.token_ids, label) != label:
                text = prompt[-1].content[:60]
                raise EngineError("PROBE_CONTRADICTION", f"the prompt {text!r} is labelled both positive and negative", text)
            found[encoded.token_ids] = encoded
    for label, name in ((1, "positive"), (0, "negative")):
        count = sum(given == label for given in label_of.values())
        if count < 2:
            raise EngineError("PROBE_TOO_FEW", f"{count} different {name} prompt: one cannot be both learned from and held out", name)
    keys = sorted(found)
    return [found[key] for key in keys], np.array([label_of[key] for key in keys])


def read_prompts(loaded: LoadedModel, prompts: Sequence[EncodedConversation], layer: int, site: str, read_position: str) -> Doubles:
    """(prompts, d_model) in the given order."""
    states: Singles = read_layers(loaded, prompts, (layer,), site, read_position)[0]
    return states.astype(np.float64)


def read_layers(
    loaded: LoadedModel, prompts: Sequence[EncodedConversation], layers: Sequence[int], site: str, read_position: str
) -> Singles:
    """(layers, prompts, d_model), both in the given order; the layers rise. Raises: EngineError NON_FINITE, and as `capture_spec`."""
    spec = capture_spec(loaded, layers=layers, site=site, read_position=read_position)
    states = np.zeros((len(spec.layers), len(prompts), loaded.d_model), dtype=np.float32)
    lengths = [len(prompt.token_ids) for prompt in prompts]

    def read(batch: Sequence[int]) -> Singles:
        parts = halve_on_oom(batch, lambda rows: read_activations(loaded, [prompts[row] for row in rows], spec))
        return torch.cat([reads.float().cpu() for _, reads in parts]).numpy()

    call = Call(
        "texts",
        (prompts, spec.layers, site, read_position),
        batch_by_length(lengths, MAX_BATCH_TOKENS),
        len,
        lambda batch, _: sum(lengths[row] for row in batch),
        lambda reads: np.ascontiguousarray(reads, dtype="<f4").tobytes(),
        lambda data: np.frombuffer(data, dtype="<f4").reshape(-1, len(spec.layers), loaded.d_model),
    )
    for batch, reads in loaded.work.run(call, read):
        states[:, list(batch)] = reads.transpose(1, 0, 2)
    finite = np.isfinite(states).all(axis=2)
    if not finite.all():
        place, row = (int(each) for each in np.argwhere(~finite)[0])
        raise EngineError("NON_FINITE", f"prompt {row} has an activation at layer {spec.layers[place]} that is not finite", str(row))
    return states


def _count_folds(labels: NDArray[np.int64], folds: int) -> int:
    return max(2, min(folds, int(labels.sum()), int((1 - labels).sum())))


def _score_held_out(states: Doubles, labels: NDArray[np.int64], folds: int, seed: int) -> Doubles:
    """The log-odds of each prompt under a regression that has not seen it."""
    from sklearn.model_selection import StratifiedKFold

    scores = np.zeros(len(labels))
    for seen, held_out in StratifiedKFold(_count_folds(labels, folds), shuffle=True, random_state=seed).split(states, labels):
        weights, bias = fit_probe(states[seen], labels[seen])
        scores[held_out] = states[held_out] @ weights + bias
    return scores


def fit_probe(states: Doubles, labels: NDArray[np.int64]) -> tuple[Doubles, float]:
    """Weights (d_model,) and bias in log-odds, on activations (rows, d_model) as they are, with labels 1 and 0.

    Raises: EngineError PROBE_NOT_CONVERGED.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, spread = states.mean(axis=0), states.std(axis=0)
    # A dimension that never changes tells nothing, and keeps the weight 0 that its zero column earns it.
    spread[spread <= _NOISE * np.abs(states).max()] = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=2000).fit((states - mean) / spread, labels)
        except ConvergenceWarning as error:
            raise EngineError("PROBE_NOT_CONVERGED", "the probe did not converge in 2000 steps; use more prompts") from error
    weights: Doubles = model.coef_[0] / spread
    return weights, float(model.intercept_[0] - weights @ mean)
