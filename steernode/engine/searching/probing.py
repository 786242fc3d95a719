"""A probe from labelled prompts: fitted to the train split at every layer asked for, chosen and calibrated on the select split, and
judged on the test split, which nothing is chosen by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steernode.engine.access.encoding import EncodedConversation, encode_prompts
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.work import Call, Planned, pack_floats, unpack_floats
from steernode.engine.measuring.ranking import estimate_auc
from steernode.engine.measuring.stats import Estimate, estimate_share
from steernode.engine.reading.probes import Doubles, Place, TrainedProbe, check_read_position, fit_probe, read_layers, write_probe
from steernode.engine.reading.roc import Calibration, calibrate
from steernode.errors import EngineError
from steernode.files.prompts import TRUE, LabelledPrompt, PromptFile, refuse_classes, say_label
from steernode.records.recipe import ProbeRecipe
from steernode.words import PROMPT_SPLITS

READING, FITTING, JUDGING = "reading the prompts", "fitting", "judging"
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FoundProbe:
    """`document` is that of the probe with what the search saw; `held_out` is the part of it that was measured on the test split."""

    trained: TrainedProbe
    held_out: dict[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        return self.trained.document


@dataclass(frozen=True, eq=False)
class _Fitted:
    layer: int
    weights: Doubles
    bias: float
    auc: Estimate


@dataclass(frozen=True, eq=False)
class _Part:
    """The prompts of one split, by their rows among all."""

    rows: NDArray[np.int64]
    labels: Labels


def plan_probe(prompts: PromptFile, recipe: ProbeRecipe) -> list[Planned]:
    return [Planned(READING, "texts", len(prompts.prompts)), Planned(FITTING, "layers", len(recipe.layers))]


def search_probe(loaded: LoadedModel, prompts: PromptFile, recipe: ProbeRecipe) -> FoundProbe:
    """The layer whose probe ranks the select split best, and of equals the lowest; its threshold fires on most positives of that
    split while its false positives stay within the recipe's rate.

    Raises: EngineError PROBE_NOT_SEPARATED with the AUC, PROBE_CONSTANT, PROBE_TARGET, PROBE_NOT_CONVERGED, NON_FINITE,
    READ_POSITION_UNKNOWN, and the codes of `refuse_classes`, `encode_prompts` and `capture_spec`.
    """
    check_read_position(recipe.read_position)
    target = float(recipe.target_false_positive_rate)
    refuse_classes(prompts.count(), recipe.intent, target)
    labels = np.array([int(say_label(prompt.label) == (recipe.intent or TRUE)) for prompt in prompts.prompts])
    rows = {split: np.flatnonzero([prompt.split == split for prompt in prompts.prompts]) for split in PROMPT_SPLITS}
    train, select, test = (_Part(rows[split], labels[rows[split]]) for split in PROMPT_SPLITS)
    encoded = encode_prompts(
        loaded, [prompt.messages for prompt in prompts.prompts], names=[f"prompt {prompt.id!r}" for prompt in prompts.prompts]
    )
    layers = sorted(recipe.layers)
    loaded.work.enter(READING)
    states = read_layers(loaded, encoded, layers, recipe.site, recipe.read_position)
    loaded.work.enter(FITTING)
    fitted = _fit_layers(loaded, encoded, states, layers, train, select, recipe)
    best = max(fitted, key=lambda each: (each.auc.value, -each.layer))
    _refuse_mixed(best, best.auc, "select", recipe)
    at_best = states[layers.index(best.layer)].astype(np.float64)
    calibration = calibrate(at_best[select.rows] @ best.weights + best.bias, select.labels, target)
    loaded.work.enter(JUDGING)
    scores = at_best[test.rows] @ best.weights + best.bias
    # As the stored threshold decides, which is rounded.
    held_out = _judge(scores, test.labels, calibration, [prompts.prompts[row] for row in test.rows])
    _refuse_mixed(best, estimate_auc(scores, test.labels), "test", recipe)
    trained = write_probe(
        loaded,
        (best.weights, best.bias),
        calibration,
        place=Place(best.layer, recipe.site, recipe.read_position),
        prompts_digest=prompts.digest,
        mean_residual_norm=float(np.linalg.norm(at_best, axis=1).mean()),
        examples=int(min(train.labels.sum(), (1 - train.labels).sum())),
        prompt_set=prompts.digest,
        intent=recipe.intent,
        prompts={split: _count(part.labels) for split, part in zip(PROMPT_SPLITS, (train, select, test), strict=True)},
        layers=[{"layer": each.layer, "auc": each.auc.to_document()} for each in fitted],
        ran_on=dict(loaded.ran_on),
        held_out=held_out,
    )
    return FoundProbe(trained, held_out)


def _fit_layers(
    loaded: LoadedModel,
    encoded: Sequence[EncodedConversation],
    states: NDArray[np.float32],
    layers: Sequence[int],
    train: _Part,
    select: _Part,
    recipe: ProbeRecipe,
) -> list[_Fitted]:
    def fit(place: int) -> Doubles:
        loaded.work.check()
        weights, bias = fit_probe(states[place, train.rows].astype(np.float64), train.labels)
        return np.append(weights, bias)

    inputs = (encoded, layers, recipe.site, recipe.read_position, train.rows.tolist(), train.labels.tolist())
    call = Call("layers", inputs, list(range(len(layers))), lambda _: 1, lambda *_: 0, pack_floats, unpack_floats)
    found = []
    for place, learned in loaded.work.run(call, fit):
        weights, bias = learned[:-1], float(learned[-1])
        if weights.any():
            scores = states[place, select.rows].astype(np.float64) @ weights + bias
            found.append(_Fitted(layers[place], weights, bias, estimate_auc(scores, select.labels)))
    if not found:
        named = ", ".join(map(str, layers))
        raise EngineError("PROBE_CONSTANT", f"the prompts of both classes read the same at layer {named}; choose another", named)
    return found


def _judge(scores: Doubles, labels: Labels, calibration: Calibration, prompts: Sequence[LabelledPrompt]) -> dict[str, Any]:
    """What the threshold does on the test split, whole and by locale and kind of prompt, and the curve that it is a point of."""
    fires = scores >= calibration.threshold

    def describe(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        document: dict[str, Any] = _count(labels[chosen])
        for name, label in (("true_positive_rate", 1), ("false_positive_rate", 0)):
            of_class = chosen & (labels == label)
            document[name] = estimate_share(fires[of_class].astype(np.float64)).to_document() if of_class.any() else None
        both = 0 < labels[chosen].sum() < chosen.sum()
        document["auc"] = estimate_auc(scores[chosen], labels[chosen]).to_document() if both else None
        return document

    def by(words: Sequence[str]) -> Mapping[str, dict[str, Any]]:
        return {word: describe(np.array([each == word for each in words])) for word in sorted(set(words)) if word}

    return {
        **describe(np.ones(len(labels), dtype=bool)),
        "by_locale": by([prompt.locale for prompt in prompts]),
        "by_kind": by([prompt.kind for prompt in prompts]),
        "roc": [point.to_document() for point in calibrate(scores, labels, None).curve],
    }


def _refuse_mixed(best: _Fitted, auc: Estimate, split: str, recipe: ProbeRecipe) -> None:
    if auc.low < float(recipe.least_auc):
        found = f"AUC {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}] on {auc.n} prompts of the {split} split"
        layers = f"at layer {best.layer}" + (f", the best of {len(recipe.layers)}" if len(recipe.layers) > 1 else "")
        wanted = f"the low end must reach {recipe.least_auc}"
        raise EngineError("PROBE_NOT_SEPARATED", f"the classes do not separate {layers}: {found}; {wanted}", f"{auc.value:.3f}")


def _count(labels: Labels) -> dict[str, int]:
    return {"positives": int(labels.sum()), "negatives": int((1 - labels).sum())}
